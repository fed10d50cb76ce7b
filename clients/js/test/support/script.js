// A server that answers as a test says, byte by byte if need be: a double of what networks, proxies and older or newer servers do.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';

/** The JSON form of an error of the server's own. */
export function told(status, code, reason, retryDelay) {
  const details = [{ '@type': 'type.googleapis.com/google.rpc.ErrorInfo', domain: 'postbus', reason }];
  if (retryDelay) details.push({ '@type': 'type.googleapis.com/google.rpc.RetryInfo', retry_delay: retryDelay });
  return { error: { code, status, reason, message: 'as the test says', details } };
}

export const notification = (id, payload = id) => (
  { id, channel: 'a', type: '', payload, headers: {}, sent_at: '2026-01-02T03:04:05.678Z' });

/** A SubscribeResponse. */
export const response = (last, ...ids) => ({ notifications: ids.map((id) => notification(id)), last });

/** What the server writes as events. */
export const position = (last) => `event: position\nid: ${last}\ndata: {"last":${last}}\n\n`;
export const event = (id, payload = id) => `id: ${id}\ndata: ${JSON.stringify(notification(id, payload))}\n\n`;
export const fault = (error, retry) => `retry: ${retry}\nevent: fault\ndata: ${JSON.stringify(error)}\n\n`;

/** A WebSocket as the server has it. */
class Socket {
  #socket;
  #buffer = Buffer.alloc(0);
  /** The client's frames, parsed. */
  frames = [];
  onframe = () => {};
  closed = new Promise((resolve) => {
    this.hasClosed = resolve;
  });

  constructor(socket) {
    this.#socket = socket;
    socket.on('data', (chunk) => {
      this.#buffer = Buffer.concat([this.#buffer, chunk]);
      while (this.#frame());
    });
    socket.on('close', () => this.hasClosed());
    socket.on('error', () => {});
  }

  #frame() {
    const b = this.#buffer;
    if (b.length < 6) return false;
    let [length, at] = [b[1] & 0x7f, 2];
    if (length === 126) [length, at] = [b.readUInt16BE(2), 4];
    if (b.length < at + 4 + length) return false;
    const mask = b.subarray(at, at + 4);
    const data = Buffer.from(b.subarray(at + 4, at + 4 + length).map((c, i) => c ^ mask[i % 4]));
    this.#buffer = b.subarray(at + 4 + length);
    if ((b[0] & 15) === 8) {
      this.#write(8, data);
      this.#socket.end();
    } else if ((b[0] & 15) === 1) {
      this.frames.push(JSON.parse(data));
      this.onframe(this.frames.at(-1));
    }
    return true;
  }

  #write(opcode, data) {
    const head = data.length < 126 ? [0x80 | opcode, data.length]
      : data.length < 65_536 ? [0x80 | opcode, 126, data.length >> 8, data.length & 255]
        : [0x80 | opcode, 127, 0, 0, 0, 0, ...[24, 16, 8, 0].map((shift) => (data.length >> shift) & 255)];
    return this.#socket.write(Buffer.concat([Buffer.from(head), data]));
  }

  /** Sends a text frame, and says whether more may be sent at once. */
  send(what) {
    return this.#write(1, Buffer.from(typeof what === 'string' ? what : JSON.stringify(what)));
  }

  binary(bytes) {
    this.#write(2, Buffer.from(bytes));
  }

  close(code, reason = '') {
    this.#write(8, Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)]));
  }

  drained() {
    return Promise.race([once(this.#socket, 'drain'), this.closed]);
  }

  cut() {
    this.#socket.destroy();
  }
}

/**
 * Starts a server that plays script: its functions send, poll, sse and socket get what they are asked and the number of calls of
 * their kind so far, from 1. What has no function is refused as a server does that does not know it. handshake may return the bytes by
 * which the handshake of a WebSocket is refused.
 */
export async function play(t, script) {
  const calls = { send: 0, poll: 0, sse: 0, socket: 0 };
  const requests = [];
  const server = http.createServer(async (req, res) => {
    res.on('error', () => {});
    req.on('error', () => {});
    const chunks = [];
    for await (const chunk of req) chunks.push(chunk);
    const text = Buffer.concat(chunks).toString();
    requests.push({ path: req.url, headers: req.headers, text });
    const answer = (status, body, headers = {}) => {
      res.writeHead(status, { 'Content-Type': 'application/json', ...headers });
      res.end(typeof body === 'string' ? body : JSON.stringify(body));
    };
    const wantsEvents = req.url === '/v1/subscribe';
    const kind = wantsEvents ? 'sse' : req.url.slice('/v1/'.length);
    if (!script[kind]) return answer(wantsEvents ? 406 : 404, told('INVALID_ARGUMENT', 3, wantsEvents ? 'NOT_ACCEPTABLE' : 'NOT_FOUND'));
    calls[kind]++;
    const cut = () => req.socket.destroy();
    if (wantsEvents) {
      const write = (what) => {
        if (!res.headersSent) res.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store' });
        return res.write(what);
      };
      const closed = once(res, 'close');
      return script.sse({ write, cut, closed, end: () => res.end(), answer, drained: () => Promise.race([once(res, 'drain'), closed]) },
        calls.sse, JSON.parse(text));
    }
    return script[kind]({ answer, cut, req, closed: once(res, 'close') }, calls[kind], JSON.parse(text));
  });
  server.on('upgrade', (req, socket) => {
    calls.socket++;
    socket.on('error', () => {});
    const refusal = script.handshake?.(calls.socket);
    if (refusal !== undefined) return socket.end(refusal);
    if (!script.socket) return socket.end('HTTP/1.1 501 Not Implemented\r\nContent-Length: 0\r\n\r\n');
    const accept = createHash('sha1').update(`${req.headers['sec-websocket-key']}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`);
    const s = new Socket(socket);
    s.onframe = (frame) => script.socket(s, calls.socket, frame);
    return undefined;
  });
  const connections = new Set();
  server.on('connection', (c) => {
    connections.add(c);
    c.on('close', () => connections.delete(c));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cutAll = () => connections.forEach((c) => c.destroy());
  t.after(() => {
    cutAll();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}`, calls, requests, cutAll };
}

/** The first count events of a subscription. */
export async function take(subscription, count) {
  const events = [];
  if (count === 0) return events;
  for await (const e of subscription) {
    events.push(e);
    if (events.length === count) break;
  }
  return events;
}

/** Bounds a test; the time is no assertion about speed. */
export const patience = { timeout: 60_000 };
