import { GOOD } from './choice.js';
import { curable, PostbusError, wantsOtherTransport } from './errors.js';
import { longPolls } from './poll.js';
import { serverSentEvents } from './sse.js';
import { Delay, follow, pause } from './time.js';
import { BEHIND, webSocket } from './websocket.js';

/** @typedef {import('../index.js').Transport} Transport */
/** @typedef {import('./wire.js').Answer} Answer */

/**
 * What a transport needs to know of the client and the subscription that it serves.
 * @typedef {object} Line
 * @property {import('./http.js').Http} http
 * @property {import('./choice.js').Choice} choice
 * @property {import('./wire.js').Reader} reader
 * @property {new (url: string) => WebSocket} WebSocket
 * @property {readonly string[]} channels
 * @property {() => number | undefined} after the cursor at this moment
 * @property {() => string} body the SubscribeRequest at this moment
 * @property {number} openTimeout ms
 * @property {number} silence ms
 * @property {AbortSignal} signal
 */

/** A transport yields answers until it ends, and throws why. @type {Record<Transport, (line: Line) => AsyncGenerator<Answer, void>>} */
const TRANSPORTS = { websocket: webSocket, sse: serverSentEvents, poll: longPolls };

/** How long the server may be silent, in heartbeats. */
const SILENCE = 2.5;

const DEFAULT_HEARTBEAT = 20_000;

export class Subscription {
  #line;
  #request;
  #positions;
  #onState;
  #stop = new AbortController();
  #delay = new Delay(100, 30_000);
  #reading = false;
  /** @type {number | undefined} */
  #last;
  /** @type {Transport | undefined} */
  #transport;

  /**
   * @param {Pick<Line, 'http' | 'choice' | 'reader' | 'WebSocket' | 'openTimeout'>} way
   * @param {readonly string[]} channels
   * @param {{ after?: number, heartbeat?: number, heartbeatText?: string, positions?: boolean, signal?: AbortSignal,
   *   onState?: (state: import('../index.js').SubscriptionState) => void }} options
   */
  constructor(way, channels, options) {
    this.#last = options.after;
    this.#positions = options.positions ?? false;
    this.#onState = options.onState;
    this.#request = { channels: [...channels], heartbeat: options.heartbeatText };
    this.#line = {
      ...way,
      channels: this.#request.channels,
      after: () => this.#last,
      body: () => JSON.stringify({ ...this.#request, after: this.#last }),
      silence: SILENCE * (options.heartbeat ?? DEFAULT_HEARTBEAT),
      signal: this.#stop.signal,
    };
    follow(options.signal, this.#stop);
  }

  get last() {
    return this.#last;
  }

  get transport() {
    return this.#transport;
  }

  close() {
    this.#stop.abort();
  }

  /** @returns {AsyncGenerator<any, void, void>} */
  async *[Symbol.asyncIterator]() {
    if (this.#reading) throw new Error('the subscription is being read already: one loop at a time');
    this.#reading = true;
    /** @type {unknown} */
    let error;
    try {
      yield* this.#read();
    } catch (cause) {
      error = cause;
      throw cause;
    } finally {
      this.#reading = false;
      this.#transport = undefined;
      this.#onState?.({ state: 'closed', error });
    }
  }

  /** Reads over as many streams as it takes. */
  async *#read() {
    while (!this.#stop.signal.aborted) {
      /** @type {unknown} */
      let error;
      /** @type {Transport[]} */
      const failed = [];
      let hope = false;
      for (const transport of this.#line.choice.candidates()) {
        const stream = { opened: 0, end: /** @type {unknown} */ (undefined) };
        yield* this.#stream(transport, failed, stream);
        this.#transport = undefined;
        if (this.#stop.signal.aborted) return;
        error = stream.end;
        if (stream.opened > 0) {
          const lived = performance.now() - stream.opened;
          this.#line.choice.ended(transport, lived, error instanceof PostbusError && !error.fromServer);
          if (lived >= GOOD) this.#delay.reset();
          if (!curable(error)) throw error;
          break;
        }
        if (!(error instanceof PostbusError)) throw error;
        if (error.fromServer && !wantsOtherTransport(error)) {
          if (!curable(error)) throw error;
          break;
        }
        failed.push(transport);
        hope ||= curable(error) && transport !== 'websocket'; // of which nobody learns why it failed
      }
      if (error === BEHIND || error === undefined) continue;
      if (!curable(error) && !hope && !this.#line.choice.forget()) throw error;
      const wait = this.#delay.next(error instanceof PostbusError ? error.retryDelay : 0);
      this.#onState?.({ state: 'waiting', error, wait });
      await pause(wait, this.#stop.signal);
    }
  }

  /**
   * Reads one stream to its end, and notes in stream when it opened and why it ended.
   * @param {Transport} transport
   * @param {Transport[]} failed what was tried in vain a moment before
   * @param {{ opened: number, end: unknown }} stream
   */
  async *#stream(transport, failed, stream) {
    this.#onState?.({ state: 'connecting', transport });
    const answers = TRANSPORTS[transport](this.#line);
    try {
      while (true) {
        /** @type {IteratorResult<Answer, void>} */
        let next;
        try {
          next = await answers.next();
        } catch (error) {
          stream.end = error;
          return;
        }
        if (next.done || this.#stop.signal.aborted) return;
        if (stream.opened === 0) {
          stream.opened = performance.now();
          this.#line.choice.blame(failed);
          this.#transport = transport;
          this.#onState?.({ state: 'open', transport });
        }
        yield* this.#deliver(next.value);
        if (this.#stop.signal.aborted) return;
      }
    } finally {
      await answers.return();
    }
  }

  /**
   * Hands out one answer, and moves the cursor with each event: a loop that breaks off has taken the event it broke off at.
   * @param {Answer} answer
   */
  async *#deliver({ notifications, last, gap }) {
    let given = false;
    if (gap) {
      this.#last = gap.until; // the one thing that may move a cursor backwards
      given = true;
      yield { gap, last: gap.until };
    }
    for (const notification of notifications) {
      if (this.#last !== undefined && notification.id <= this.#last) continue; // handed out before
      if (this.#stop.signal.aborted) return; // the rest comes again
      this.#last = notification.id;
      this.#delay.reset();
      given = true;
      yield { notification, last: notification.id };
    }
    if (this.#stop.signal.aborted) return;
    if (this.#last === undefined || last > this.#last) this.#last = last;
    if (this.#positions && !given) yield { last: this.#last };
  }
}
