// npm's socketcluster-server. Arguments: pingInterval and pingTimeout in milliseconds (by default 8000 and 30000).
"use strict";
const { load, run, server, times } = require("./common.js");

const cluster = load("socketcluster-server").attach(server, { pingInterval: times[0], pingTimeout: times[1] });
(async () => {
  for await (const { warning } of cluster.listener("warning")) console.error(warning);
})();
run(seq => cluster.exchange.transmitPublish("ticks", { seq }));
