// What the servers share: packages from NODE_MODULES, a free port, and ticks, numbered from 1.
"use strict";
const http = require("node:http");

exports.load = name => require(require.resolve(name, { paths: [process.env.NODE_MODULES] }));
exports.times = process.argv.slice(2).map(Number);
exports.server = http.createServer((_request, response) => response.writeHead(404).end());

// Prints the port, and calls `tick` with each number.
exports.run = tick => {
  let number = 0;
  exports.server.listen(0, "127.0.0.1", () => console.log(`listening on ${exports.server.address().port}`));
  setInterval(() => tick(++number), Number(process.env.TICK_MILLISECONDS));
};
