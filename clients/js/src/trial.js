import { PostbusError, wantsOtherTransport } from './errors.js';
import { pause } from './time.js';

/** @typedef {import('../index.js').Transport} Transport */

/** The end of a stream whose trial lived as long as it had to. */
const LIVED = Symbol('lived');

/**
 * Tries again, beside an open stream, the better transports that are in doubt, by the rule of choice.js. A failure in a trial is
 * enclosed by two answers of the stream: the one before, with which the reader had all that had come, and the next, for which it waits.
 * A reader that is busy waits for nothing: what it takes next may have come long ago, and says nothing of the server.
 */
export class Trial {
  #choice;
  #transport;
  #open;
  #signal;
  #waiting = false; // for the stream
  /** @type {Set<Transport>} */
  #failed = new Set(); // while the reader waited for the stream, which has not answered since
  #wake = () => {};

  /**
   * @param {import('./choice.js').Choice} choice
   * @param {Transport} transport that of the open stream
   * @param {(transport: Transport, signal: AbortSignal) => AsyncGenerator<unknown, void>} open a stream whose answers nobody needs
   * @param {AbortSignal} signal ends with the open stream
   */
  constructor(choice, transport, open, signal) {
    this.#choice = choice;
    this.#transport = transport;
    this.#open = open;
    this.#signal = signal;
    signal.addEventListener('abort', () => this.#wake());
  }

  /** Says that the reader has all that came of the stream, and waits for more. */
  waits() {
    this.#waiting = true;
    this.#wake();
  }

  /** Says that the stream answered. */
  answered() {
    this.#waiting = false;
    for (const t of this.#failed) this.#choice.blame(t);
    this.#failed.clear();
    this.#wake();
  }

  /** Resolves with true when a better transport gets through, with false when none is in doubt any more or the stream has ended. */
  async run() {
    while (!this.#signal.aborted && !this.#choice.better(this.#transport)) {
      const next = this.#choice.nextTrial(this.#transport, this.#failed);
      if (!next && this.#failed.size === 0) return false;
      if (next) await pause(next.wait, this.#signal);
      else await this.#change();
      while (!this.#waiting && !this.#signal.aborted) await this.#change();
      if (!next || this.#signal.aborted) continue;
      const least = this.#choice.begin(next.transport);
      if (least === undefined) continue; // another subscription tries it, or is through
      const outcome = await this.#try(next.transport, least);
      this.#choice.end(next.transport, outcome === 'passed');
      if (outcome === 'failed' && this.#waiting) this.#failed.add(next.transport);
    }
    return !this.#signal.aborted;
  }

  /** Resolves when the reader begins to wait, when the stream answers, and when it ends. */
  #change() {
    return new Promise((/** @type {(value?: undefined) => void} */ resolve) => {
      this.#wake = resolve;
    });
  }

  /**
   * Opens a stream of transport, and says whether it lives. 'unknown': it was broken off, or it does get through, but the server will
   * not have it now.
   * @param {Transport} transport
   * @param {number} least ms
   * @returns {Promise<'passed' | 'failed' | 'unknown'>}
   */
  async #try(transport, least) {
    const controller = new AbortController();
    const end = () => controller.abort();
    this.#signal.addEventListener('abort', end);
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    try {
      for await (const _ of this.#open(transport, controller.signal)) {
        if (least === 0) return 'passed';
        timer ??= setTimeout(() => controller.abort(LIVED), least);
      }
      return 'unknown';
    } catch (error) {
      if (error === LIVED) return 'passed';
      if (controller.signal.aborted || !(error instanceof PostbusError)) return 'unknown';
      return error.fromServer && !wantsOtherTransport(error) ? 'unknown' : 'failed';
    } finally {
      clearTimeout(timer);
      this.#signal.removeEventListener('abort', end);
    }
  }
}
