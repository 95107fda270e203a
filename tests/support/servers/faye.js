// npm's faye, a server of Bayeux. Arguments: its timeout in milliseconds (by default 45000).
"use strict";
const { load, run, server, times } = require("./common.js");
const faye = load("faye");

const bayeux = new faye.NodeAdapter({ mount: "/faye", timeout: times[0] / 1000 });
bayeux.attach(server);
run(seq => bayeux.getClient().publish("/ticks", { seq }));
