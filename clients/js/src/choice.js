/** @typedef {import('../index.js').Transport} Transport */

/** How long a transport that does not get through is left out, in ms: this, twice as long each time, at most the latter. */
const FIRST_BLOCK = 5 * 60_000, MOST_BLOCK = 60 * 60_000;

/** A stream that lived this long, in ms, was a good one. */
export const GOOD = 30_000;

/** So many streams in a row that something on the way cut before they were good, and the transport does not get through. */
const CUTS = 3;

/** How long a long-poll waits, in ms: the longest, and the shortest where something on the way allows only short requests. */
const LONGEST_POLL = 25_000, SHORTEST_POLL = 1000;

/**
 * What a client has learned of the way to the server: which transports get through. A transport is blamed only when another one
 * works where it failed, or when it is cut again and again: a server that is away is nobody's fault but its own. The last
 * transport is never left out. All subscriptions of a client share it.
 */
export class Choice {
  #transports;
  #now;
  /** @type {Map<Transport, { until: number, length: number }>} */
  #blocks = new Map();
  /** @type {Map<Transport, number>} */
  #cuts = new Map();
  #shortened = { timeout: LONGEST_POLL, until: 0 };

  /** @param {readonly Transport[]} transports best first @param {() => number} [now] ms */
  constructor(transports, now = () => performance.now()) {
    this.#transports = transports;
    this.#now = now;
  }

  /** The transports to try, best first. Never none. */
  candidates() {
    const free = this.#transports.filter((t) => !this.#blocked(t));
    return free.length > 0 ? free : this.#transports.slice(-1);
  }

  /** Says that another transport gave a first answer where failed did not, a moment before. @param {Transport[]} failed */
  blame(failed) {
    for (const t of failed) this.#block(t);
  }

  /**
   * Says that a stream of t ended after ms, and whether without a word of the server.
   * @param {Transport} t
   * @param {number} ms
   * @param {boolean} cut
   */
  ended(t, ms, cut) {
    if (ms >= GOOD) {
      this.#cuts.delete(t);
      this.#blocks.delete(t);
    } else if (cut) {
      const cuts = (this.#cuts.get(t) ?? 0) + 1;
      this.#cuts.set(t, cuts % CUTS);
      if (cuts === CUTS) this.#block(t);
    }
  }

  /** Forgets what failed, and says whether there was anything: a refusal is final only when no other transport is left. */
  forget() {
    const some = this.candidates().length < this.#transports.length;
    this.#blocks.clear();
    return some;
  }

  /** Whether one that is better than t may be tried again. @param {Transport} t */
  better(t) {
    return this.#transports.slice(0, this.#transports.indexOf(t)).some((b) => !this.#blocked(b));
  }

  /** How long the next long-poll may wait, in ms. */
  pollTimeout() {
    return this.#now() < this.#shortened.until ? this.#shortened.timeout : LONGEST_POLL;
  }

  /** Says that something on the way cut a poll after ms: the next ones stay well below that for a while. @param {number} ms */
  pollCut(ms) {
    if (ms < SHORTEST_POLL) return; // refused, not cut
    this.#shortened = { timeout: Math.max(SHORTEST_POLL, Math.min(ms / 2, this.pollTimeout())), until: this.#now() + FIRST_BLOCK };
  }

  /** @param {Transport} t */
  #blocked(t) {
    return this.#now() < (this.#blocks.get(t)?.until ?? 0);
  }

  /** @param {Transport} t */
  #block(t) {
    const length = Math.min(2 * (this.#blocks.get(t)?.length ?? FIRST_BLOCK / 2), MOST_BLOCK);
    this.#blocks.set(t, { until: this.#now() + length, length });
  }
}
