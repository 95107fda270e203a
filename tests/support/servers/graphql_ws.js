// npm's graphql-ws. Arguments: keepAlive in milliseconds (by default 12000).
"use strict";
const { EventEmitter, on } = require("node:events");
const { load, run, server, times } = require("./common.js");
const { buildSchema } = load("graphql");
const { useServer } = load("graphql-ws/lib/use/ws");
const { WebSocketServer } = load("ws");

const schema = buildSchema("type Tick { seq: Int } type Query { seq: Int } type Subscription { ticks: Tick }");
const numbers = new EventEmitter().setMaxListeners(0);
async function* ticks() {
  for await (const [seq] of on(numbers, "tick")) yield { ticks: { seq } };
}
useServer({ schema, roots: { subscription: { ticks } } }, new WebSocketServer({ server, path: "/graphql" }), times[0]);
run(seq => numbers.emit("tick", seq));
