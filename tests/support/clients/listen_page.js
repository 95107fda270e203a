// A browser's WebSocket, in a page. It logs, a line of JSON each, that it is connected and what it gets, and sends back what is
// small. `url`, `subprotocols` and `redirect` are set in front of it.
const say = (...values) => console.log(JSON.stringify(values));
const hex = buffer => Array.from(new Uint8Array(buffer), byte => byte.toString(16).padStart(2, "0")).join("");
let address = url;
if (redirect) {
  const answer = await fetch(url.replace("ws:", "http:"), { headers: { Accept: "application/json" } });
  address = (await answer.json()).url;
}
const socket = new WebSocket(address, subprotocols);
socket.binaryType = "arraybuffer";
let turn = Promise.resolve();  // digests come later: one after the other, so that the order stays
socket.onopen = () => say("open", socket.protocol, socket.extensions);
socket.onmessage = event => {
  const data = typeof event.data === "string" ? new TextEncoder().encode(event.data) : new Uint8Array(event.data);
  turn = turn.then(async () => {
    const sum = await crypto.subtle.digest("SHA-256", data);
    say(typeof event.data === "string" ? "text" : "binary", data.length, hex(sum));
    if (data.length <= 100000) socket.send(event.data);
  });
};
socket.onclose = event => { turn = turn.then(() => say("closed", event.code)); };
