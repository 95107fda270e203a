/* A WebSocket that survives reconnects: it continues with the next message, at any greeter and lobby. See docs/clients.md.
 *
 *     const socket = new ResumingWebSocket("wss://gateway.example.com/prices");
 *     socket.onmessage = event => show(event.data);
 *     socket.ongap = event => loadSnapshot(event.reason);      // messages may be missing or repeated
 *
 * It looks like a WebSocket: `open` is dispatched once, and `close` only at the end, after `close()` or when reconnecting does not
 * help. In between, `readyState` is CONNECTING while it reconnects. Two events are new: `reconnect`, and `gap` with the reason.
 *
 * Set the option `tickets` for a Lobby with `routing.mode: Redirect`: web pages cannot follow a redirect of a WebSocket, so the
 * address of a lobby is asked for with fetch before each connection. With a Lobby that does not redirect it does no harm.
 *
 * Browsers compute hashes in secure contexts only (https, or localhost); elsewhere each reconnect is a gap.
 */

const HASHES = 16;
const FINAL_CODES = new Set([1002, 1003, 1007, 1008, 1009, 1010]);
const TRANSIENT = new Set([408, 425, 429, 500, 502, 503, 504]);
const EVENTS = ["open", "message", "error", "close", "reconnect", "gap"];
const DEFAULTS = { minBackoff: 500, maxBackoff: 30000, stable: 10000, noSeat: 5000, maxRetryAfter: 300000, tickets: false };

export class ResumingWebSocket extends EventTarget {
  static CONNECTING = 0;
  static OPEN = 1;
  static CLOSING = 2;
  static CLOSED = 3;

  CONNECTING = 0;
  OPEN = 1;
  CLOSING = 2;
  CLOSED = 3;

  onopen = null;
  onmessage = null;
  onerror = null;
  onclose = null;
  onreconnect = null;
  ongap = null;
  binaryType = "blob";
  reconnects = 0;
  gaps = 0;

  #protocols;
  #options;
  #socket = null; // the current attempt or connection
  #state = 0;
  #opened = false;
  #asked = false; // with hashes: the next message is the answer
  #latest = []; // payloads of the latest messages: strings and ArrayBuffers
  #afterGap = false; // the next message does not follow those
  #attempt = 0;
  #openedAt = 0;
  #timer = null;
  #abort = new AbortController(); // of a request for a ticket

  constructor(url, protocols = [], options = {}) {
    super();
    this.url = new URL(url, globalThis.location?.href).href.replace(/^http/, "ws");
    this.#protocols = protocols;
    this.#options = { ...DEFAULTS, ...options };
    for (const type of EVENTS) this.addEventListener(type, event => this[`on${type}`]?.(event));
    this.#connect();
  }

  get readyState() { return this.#state; }
  get protocol() { return this.#socket?.protocol ?? ""; }
  get extensions() { return this.#socket?.extensions ?? ""; }
  get bufferedAmount() { return this.#socket?.bufferedAmount ?? 0; }

  /* Sends to the origin, if the Lobby forwards messages. None is kept while it reconnects: it throws, as a WebSocket does. */
  send(data) {
    if (this.#state === this.CONNECTING) throw new DOMException("not connected", "InvalidStateError");
    this.#socket?.send(data);
  }

  close(code = 1000, reason = "") {
    if (this.#state >= this.CLOSING) return;
    const connected = this.#socket && this.#socket.readyState <= WebSocket.OPEN;
    if (connected) this.#socket.close(code, reason); // throws if the code is not allowed
    this.#state = this.CLOSING;
    this.#abort.abort();
    clearTimeout(this.#timer);
    if (!connected) queueMicrotask(() => this.#end({ code: 1006, reason: "", wasClean: false }));
  }

  async #connect() {
    this.#timer = null;
    const latest = this.#latest.slice();
    try {
      const query = await hashes(latest);
      let url = query ? `${this.url}${this.url.includes("?") ? "&" : "?"}resume=${query}` : this.url;
      if (this.#options.tickets) url = await this.#ticket(url);
      if (this.#state !== this.CONNECTING) return;
      this.#asked = query !== "";
      const socket = new WebSocket(url, this.#protocols);
      this.#socket = socket;
      socket.binaryType = "arraybuffer"; // to be hashed without waiting
      socket.onopen = () => this.#open();
      socket.onmessage = event => this.#message(event);
      socket.onclose = event => this.#closed(event);
    } catch (error) {
      if (this.#state !== this.CONNECTING) return;
      if (error instanceof Refused && error.final) this.#end({ code: 1006, reason: error.message, wasClean: false }, true);
      else this.#later(error.retryAfter ?? 0);
    }
  }

  /* The address of a lobby, with a ticket for one connection. */
  async #ticket(url) {
    const signal = this.#abort.signal;
    const answer = await fetch(url.replace(/^ws/, "http"), { headers: { Accept: "application/json" }, cache: "no-store", signal });
    if (answer.status === 426) return url; // this Lobby does not redirect
    if (!answer.ok) throw new Refused(answer, this.#options.maxRetryAfter);
    return (await answer.json()).url;
  }

  #open() {
    this.#state = this.OPEN;
    this.#openedAt = performance.now();
    if (!this.#opened) {
      this.#opened = true;
      this.dispatchEvent(new Event("open"));
      return;
    }
    this.reconnects += 1;
    this.dispatchEvent(new Event("reconnect"));
    if (!this.#asked) this.#gap(this.#latest.length ? "no hashes outside of secure contexts" : "no message was received before");
  }

  #message(event) {
    const data = event.data;
    if (this.#asked) {
      this.#asked = false;
      const problem = answer(data);
      if (problem === null) {
        this.#gap("the server does not support resuming");
      } else {
        if (problem) this.#gap(problem);
        return;
      }
    }
    if (this.#afterGap) this.#latest = []; // no lobby has these in a row
    this.#afterGap = false;
    this.#latest.push(data);
    if (this.#latest.length > HASHES) this.#latest.shift();
    const asked = typeof data === "string" || this.binaryType === "arraybuffer" ? data : new Blob([data]);
    this.dispatchEvent(new MessageEvent("message", { data: asked, origin: event.origin }));
  }

  #closed(event) {
    this.#asked = false;
    if (this.#state === this.CLOSING || event.code === 1000 || FINAL_CODES.has(event.code)) {
      this.#end(event, FINAL_CODES.has(event.code));
      return;
    }
    if (this.#state === this.OPEN && performance.now() - this.#openedAt >= this.#options.stable) this.#attempt = 0;
    this.#state = this.CONNECTING;
    this.#later(event.code === 1013 ? this.#options.noSeat : 0);
  }

  /* Waits: exponential back-off with full jitter, on top of what the server asked for. */
  #later(floor) {
    const most = Math.min(this.#options.maxBackoff, this.#options.minBackoff * 2 ** Math.min(this.#attempt++, 30));
    this.#timer = setTimeout(() => this.#connect(), floor + Math.random() * most);
  }

  #gap(reason) {
    this.gaps += 1;
    this.#afterGap = true;
    this.dispatchEvent(Object.assign(new Event("gap"), { reason }));
  }

  #end({ code, reason, wasClean }, failed = false) {
    if (this.#state === this.CLOSED) return;
    this.#state = this.CLOSED;
    if (failed) this.dispatchEvent(new Event("error"));
    this.dispatchEvent(new CloseEvent("close", { code, reason, wasClean }));
  }
}

/* A request for a ticket that was refused. */
class Refused extends Error {
  constructor(answer, maxRetryAfter) {
    super(`refused with ${answer.status}`);
    this.final = !TRANSIENT.has(answer.status);
    const named = answer.headers.get("Retry-After") ?? "";
    const wait = /^\d+$/.test(named) ? Number(named) * 1000 : Date.parse(named) - Date.now();
    this.retryAfter = Math.min(Math.max(0, wait || 0), maxRetryAfter);
  }
}

/* The first 8 bytes of SHA-256 of each payload, in base64url; empty if there are none, or they can't be computed. */
async function hashes(payloads) {
  if (!globalThis.crypto?.subtle) return "";
  const encoder = new TextEncoder();
  const one = async payload => {
    const bytes = typeof payload === "string" ? encoder.encode(payload) : payload;
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes), 0, 8);
    return btoa(String.fromCharCode(...digest)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  };
  return (await Promise.all(payloads.map(one))).join(".");
}

/* Why a stream does not continue where it was, from the first message; empty if it does; null: no answer. */
function answer(data) {
  if (typeof data !== "string" || !data.startsWith('{"lobby-gateway":')) return null;
  try {
    const told = JSON.parse(data)["lobby-gateway"];
    return told.resume === "exact" ? "" : String(told.reason);
  } catch {
    return null;
  }
}
