// A peer: the obvious program with npm's `ws`, using the broadcast from its README between an origin and clients.
//
//     ws_broadcast.js ORIGIN_PORT [deflate]
//
// Prints its port once the origin is connected; exits with the origin.
"use strict";

const { WebSocket, WebSocketServer } = require("ws");

const deflate = process.argv[3] === "deflate";
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, backlog: 4096, perMessageDeflate: deflate }, () => {
  const origin = new WebSocket(`ws://127.0.0.1:${process.argv[2]}`, { perMessageDeflate: false });
  origin.on("open", () => console.log(server.address().port));
  origin.on("message", (data, binary) => {
    for (const client of server.clients) {
      if (client.readyState === WebSocket.OPEN) client.send(data, { binary });
    }
  });
  origin.on("close", () => process.exit(0));
});
server.on("connection", (client) => client.on("error", () => {}));
