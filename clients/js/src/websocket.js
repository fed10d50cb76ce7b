import { broken, errorOf, PostbusError } from './errors.js';
import { Watch } from './time.js';
import { parsed } from './wire.js';

/** What may wait for the reader, in characters: a browser cannot pause a WebSocket, so more ends it, to be resumed. */
export const MOST_WAITING = 4 << 20;

/** What a frame costs beside its text, roughly. */
const FRAME = 64;

/** What the server's close codes mean when no error said it before. */
const CODES = new Map([
  [1003, 'INVALID_ARGUMENT'], [1007, 'INVALID_ARGUMENT'], [1008, 'INVALID_ARGUMENT'], [1009, 'INVALID_ARGUMENT'],
  [1011, 'INTERNAL'], [1012, 'UNAVAILABLE'], [1013, 'RESOURCE_EXHAUSTED'], [4001, 'UNAUTHENTICATED'],
]);

/** The end of a socket whose reader did not keep up. It is no fault: the next stream goes on behind what was read. */
export const BEHIND = Symbol('behind');

/** @param {{ code: number, reason: string }} event @param {boolean} joined */
function endOf({ code, reason }, joined) {
  const status = CODES.get(code);
  if (status) return new PostbusError(status, reason || `the server closed the WebSocket with ${code}`, { fromServer: true });
  return broken(joined ? `the WebSocket broke (${code})` : 'no WebSocket could be opened');
}

/** The answer that a frame is; undefined of an ack, and of what is not known. @param {string} text @param {import('./wire.js').Reader} reader */
function answerOf(text, reader) {
  const frame = parsed(text);
  const error = errorOf(frame);
  if (error) throw error;
  return Array.isArray(frame?.notifications) ? reader.response(text, frame) : undefined;
}

/**
 * Subscribe over a WebSocket. It throws when the stream ends, whyever.
 * @param {import('./transports.js').Line} line
 * @returns {AsyncGenerator<import('./wire.js').Answer, void>}
 */
export async function* webSocket(line) {
  const watch = new Watch(line.signal);
  /** @type {string[]} */
  let waiting = [];
  let size = 0;
  /** @type {unknown} */
  let end;
  let joined = false; // the handshake is done
  let opened = false; // a response came
  let wake = () => {};
  /** @type {import('../index.js').WebSocketLike | undefined} */
  let socket;
  const over = (/** @type {unknown} */ why) => {
    if (end !== undefined) return; // to close may be an error and a close of its own
    end = why;
    socket?.close();
    wake();
  };
  watch.expect(line.openTimeout, 'no response on a new WebSocket');
  watch.signal.addEventListener('abort', () => over(watch.signal.reason));
  try {
    try {
      socket = new line.WebSocket(line.http.socketURL('v1/subscribe'));
    } catch (cause) { // what a page's Content-Security-Policy forbids
      throw broken('no WebSocket could be opened', cause);
    }
    const made = socket;
    made.binaryType = 'arraybuffer';
    made.onopen = () => {
      joined = true;
      made.send(`{"subscribe":${line.body()},"request":"1"}`);
    };
    made.onclose = (event) => over(endOf(event, joined));
    made.onerror = () => over(broken(joined ? 'the WebSocket broke' : 'no WebSocket could be opened')); // Node 20 lets no close follow
    made.onmessage = ({ data }) => {
      if (end !== undefined) return;
      if (opened) watch.expect(line.silence, 'nothing on the WebSocket');
      if (typeof data !== 'string') return; // a newer server's
      waiting.push(data);
      size += data.length + FRAME;
      if (size > MOST_WAITING && waiting.length > 1) {
        over(BEHIND);
      }
      wake();
    };
    while (true) {
      while (waiting.length > 0) {
        const batch = waiting;
        waiting = [];
        for (const text of batch) {
          const answer = answerOf(text, line.reader);
          size -= text.length + FRAME;
          if (!answer) continue;
          if (!opened) {
            opened = true;
            if (end === undefined) watch.expect(line.silence, 'nothing on the WebSocket');
          }
          yield answer;
        }
      }
      if (end !== undefined) throw end;
      await new Promise((/** @type {(value?: undefined) => void} */ resolve) => {
        wake = resolve;
      });
    }
  } finally {
    watch.end();
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.onerror = () => {}; // the package ws throws what nobody hears, such as that it was closed while it opened
      socket.close();
    }
  }
}
