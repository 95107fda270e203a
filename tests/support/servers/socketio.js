// npm's socket.io. Arguments: pingInterval and pingTimeout in milliseconds (by default 25000 and 20000).
"use strict";
const { load, run, server, times } = require("./common.js");
const { Server } = load("socket.io");

const io = new Server(server, { pingInterval: times[0], pingTimeout: times[1], serveClient: false });
run(seq => io.emit("tick", { seq }));
