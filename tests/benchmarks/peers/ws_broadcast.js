// A peer: the obvious program with npm's `ws`, using the broadcast from its README between an origin and clients.
//
//     ws_broadcast.js ORIGIN ADDRESS [deflate]
//
// ORIGIN is HOST:PORT; clients connect to ADDRESS. Prints its port once the origin is connected; exits with the origin.
"use strict";

const { WebSocket, WebSocketServer } = require("ws");

const [, , originAddress, address, compression] = process.argv;
const deflate = compression === "deflate";
const server = new WebSocketServer({ host: address, port: 0, backlog: 4096, perMessageDeflate: deflate }, () => {
  const origin = new WebSocket(`ws://${originAddress}`, { perMessageDeflate: false });
  origin.on("open", () => console.log(server.address().port));
  origin.on("message", (data, binary) => {
    for (const client of server.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary });
    }
  });
  origin.on("close", () => process.exit(0));
});
server.on("connection", (client) => client.on("error", () => {}));
