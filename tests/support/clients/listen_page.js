// A browser's WebSocket, in a page. Logs a line of JSON when it connects and for each message, and echoes small messages.
// `url`, `subprotocols` and `redirect` are defined in front of it.
const say = (...values) => console.log(JSON.stringify(values));
const hex = buffer => Array.from(new Uint8Array(buffer), byte => byte.toString(16).padStart(2, "0")).join("");
let address = url;
if (redirect) {
  const answer = await fetch(url.replace("ws:", "http:"), { headers: { Accept: "application/json" } });
  address = (await answer.json()).url;
}
const socket = new WebSocket(address, subprotocols);
socket.binaryType = "arraybuffer";
let turn = Promise.resolve();  // digests are asynchronous; one at a time keeps the order
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
