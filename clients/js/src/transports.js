import { longPolls } from './poll.js';
import { serverSentEvents } from './sse.js';
import { webSocket } from './websocket.js';

/** @typedef {import('../index.js').Transport} Transport */
/** @typedef {import('./wire.js').Answer} Answer */

/**
 * What a transport needs to know of the client and the subscription that it serves.
 * @typedef {object} Line
 * @property {import('./http.js').Http} http
 * @property {import('./choice.js').Choice} choice
 * @property {import('./wire.js').Reader} reader
 * @property {new (url: string) => import('../index.js').WebSocketLike} WebSocket
 * @property {readonly string[]} channels
 * @property {() => number | undefined} after the cursor at this moment
 * @property {() => string} body the SubscribeRequest at this moment
 * @property {number} openTimeout ms
 * @property {number} silence ms
 * @property {AbortSignal} signal
 */

/** A transport yields answers until it ends, and throws why. @type {Record<Transport, (line: Line) => AsyncGenerator<Answer, void>>} */
export const TRANSPORTS = { websocket: webSocket, sse: serverSentEvents, poll: longPolls };
