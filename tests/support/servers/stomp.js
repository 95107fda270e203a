// npm's stomp-broker-js. Arguments: milliseconds between heart-beats of the server and of its clients (10000 in its documents), and
// how much later they may come (1000).
"use strict";
const { load, run, server, times } = require("./common.js");
const StompServer = load("stomp-broker-js");

const broker = new StompServer({ server, path: "/ws", heartbeat: [times[0], times[0]], heartbeatErrorMargin: times[1] });
run(seq => {
  for (const [at, { socket }] of Object.entries(broker.subscribes)) {
    if (socket.readyState !== socket.OPEN) delete broker.subscribes[at];  // it would throw
  }
  broker.send("/topic/ticks", {}, JSON.stringify({ seq }));
});
