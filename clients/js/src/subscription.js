import { GOOD } from './choice.js';
import { curable, PostbusError, wantsOtherTransport } from './errors.js';
import { Delay, follow, pause } from './time.js';
import { TRANSPORTS } from './transports.js';
import { Trial } from './trial.js';
import { BEHIND } from './websocket.js';

/** @typedef {import('../index.js').Transport} Transport */
/** @typedef {import('./transports.js').Line} Line */
/** @typedef {import('./wire.js').Answer} Answer */

/** How long the server may be silent, in heartbeats. */
const SILENCE = 2.5;

const DEFAULT_HEARTBEAT = 20_000;

/** The end of a stream when a better transport gets through. It is no fault: the next stream goes on behind what was read. */
const BETTER = Symbol('better');

export class Subscription {
  #line;
  #request;
  #positions;
  #onState;
  #stop = new AbortController();
  #signal;
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
      silence: SILENCE * (options.heartbeat ?? DEFAULT_HEARTBEAT),
    };
    this.#signal = options.signal;
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
    const unlink = follow(this.#signal, this.#stop); // only for the loop: a signal may outlive many subscriptions
    /** @type {unknown} */
    let error;
    try {
      yield* this.#read();
    } catch (cause) {
      error = cause;
      throw cause;
    } finally {
      unlink();
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
        if (stream.opened > 0) {
          error = stream.end;
          const lived = performance.now() - stream.opened;
          this.#line.choice.ended(transport, lived, error instanceof PostbusError && !error.fromServer);
          if (lived >= GOOD) this.#delay.reset();
          if (!curable(error)) throw error;
          break;
        }
        // Nobody learns why a WebSocket failed: what the others say counts.
        if (error === undefined || transport !== 'websocket') error = stream.end;
        if (!(error instanceof PostbusError)) throw error;
        if (error.fromServer && !wantsOtherTransport(error)) {
          if (!curable(error)) throw error;
          break;
        }
        failed.push(transport);
        hope ||= curable(error) && transport !== 'websocket';
      }
      if (error === BEHIND || error === BETTER) continue;
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
    const { choice } = this.#line;
    const stop = new AbortController();
    const unlink = follow(this.#stop.signal, stop);
    const answers = TRANSPORTS[transport](this.#lineFrom(() => this.#last, stop.signal));
    const trial = new Trial(choice, transport, (t, signal) => TRANSPORTS[t](this.#lineFrom(() => undefined, signal)), stop.signal);
    let trying = Promise.resolve();
    try {
      while (true) {
        /** @type {IteratorResult<Answer, void>} */
        let next;
        try {
          trial.waits();
          next = await answers.next();
        } catch (error) {
          stream.end = error;
          return;
        }
        if (next.done || this.#stop.signal.aborted) return;
        trial.answered();
        if (stream.opened === 0) {
          stream.opened = performance.now();
          choice.opened(transport, failed);
          this.#transport = transport;
          trying = trial.run().then((better) => {
            if (better) stop.abort(BETTER);
          });
          this.#onState?.({ state: 'open', transport });
        }
        yield* this.#deliver(next.value);
        if (this.#stop.signal.aborted) return;
      }
    } finally {
      stop.abort();
      unlink();
      await Promise.all([answers.return(), trying]);
    }
  }

  /** What a transport needs for a stream from a cursor on. @param {() => number | undefined} after @param {AbortSignal} signal @returns {Line} */
  #lineFrom(after, signal) {
    return { ...this.#line, after, body: () => JSON.stringify({ ...this.#request, after: after() }), signal };
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
