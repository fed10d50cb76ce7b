/** @typedef {import('../index.js').Transport} Transport */

/** When a transport in doubt is tried again, in ms: first after this, so many times as long with each blame, at most the latter. */
const FIRST_TRIAL = 2000, LATER = 4, LATEST_TRIAL = 60 * 60_000;

/** A stream that lived this long, in ms, was a good one. */
export const GOOD = 30_000;

/** So many streams in a row that something on the way cut before they were good, and the transport is in doubt. */
const CUTS = 3;

/** How long a long-poll waits, in ms: the longest, and the shortest where something on the way allows only short requests. */
const LONGEST_POLL = 25_000, SHORTEST_POLL = 1000;

/** For how long polls stay short, in ms. */
const SHORT_FOR = 5 * 60_000;

/**
 * What is held against a transport: when it is due to be tried again, and how long that took or will take from the last time; how
 * long it has to live then, 0: to open is enough; and whether it is being tried.
 * @typedef {{ due: number, length: number, least: number, trying: boolean }} Doubt
 */

/**
 * What a client has learned of the way to the server: which transports get through. All subscriptions of a client share it. The rule:
 *
 * 1. One that did not open where another one then did, or whose streams were cut three times in a row, is in doubt. That is no
 *    blame: the server may have been away for the one and back for the other, or a proxy may have sent them to two nodes.
 * 2. One in doubt comes behind the others: it is tried when no other gets through, and beside the open stream of a worse one, where
 *    a trial costs the reader nothing (trial.js). If it opens there, or lives long enough when its fault was to be cut, the doubt is
 *    over, and the subscriptions move to it.
 * 3. It is blamed only if it fails in such a trial and the stream beside it goes on to answer: the server was there before and
 *    after. With each blame the next trial is four times as late, from two seconds to an hour. A failure that nothing encloses so
 *    changes nothing.
 * 4. When all are in doubt, none is.
 */
export class Choice {
  #transports;
  #now;
  /** @type {Map<Transport, Doubt>} */
  #doubts = new Map();
  /** @type {Map<Transport, number>} */
  #cuts = new Map();
  #shortened = { timeout: LONGEST_POLL, until: 0 };

  /** @param {readonly Transport[]} transports best first @param {() => number} [now] ms */
  constructor(transports, now = () => performance.now()) {
    this.#transports = transports;
    this.#now = now;
  }

  /** The transports to try, in this order. Never none. */
  candidates() {
    const free = this.#transports.filter((t) => !this.#doubts.has(t));
    return [...free, ...this.#transports.filter((t) => this.#isDue(this.#doubts.get(t)))];
  }

  /** Says that t gave a first answer, and failed none a moment before. @param {Transport} t @param {Transport[]} failed */
  opened(t, failed) {
    if (this.#doubts.get(t)?.least === 0) this.#doubts.delete(t);
    const now = this.#now();
    for (const f of failed) this.#doubt(f, 0, now);
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
      this.#doubts.delete(t);
    } else if (cut) {
      const cuts = (this.#cuts.get(t) ?? 0) + 1;
      this.#cuts.set(t, cuts % CUTS);
      if (cuts === CUTS) this.#doubt(t, GOOD, this.#now());
    }
  }

  /** Whether one that is better than t is in no doubt. @param {Transport} t */
  better(t) {
    return this.#betterThan(t).some((b) => !this.#doubts.has(b));
  }

  /**
   * Which of those that are better than t is to be tried next, and in how many ms; undefined: none is in doubt.
   * @param {Transport} t
   * @param {Set<Transport>} except
   */
  nextTrial(t, except) {
    const now = this.#now();
    /** @type {{ transport: Transport, wait: number } | undefined} */
    let next;
    for (const transport of this.#betterThan(t)) {
      const doubt = this.#doubts.get(transport);
      if (!doubt || except.has(transport)) continue;
      const wait = doubt.trying ? FIRST_TRIAL : Math.max(doubt.due - now, 0);
      if (!next || wait < next.wait) next = { transport, wait };
    }
    return next;
  }

  /** Begins a trial of t, and returns how long it has to live; undefined: it is not due, or another subscription tries it. @param {Transport} t */
  begin(t) {
    const doubt = this.#doubts.get(t);
    if (!doubt || !this.#isDue(doubt)) return undefined;
    doubt.trying = true;
    return doubt.least;
  }

  /** Ends a trial of t. @param {Transport} t @param {boolean} passed */
  end(t, passed) {
    const doubt = this.#doubts.get(t);
    if (!doubt) return;
    doubt.trying = false;
    doubt.due = this.#now() + doubt.length;
    if (passed) this.#doubts.delete(t);
    if (passed) this.#cuts.delete(t);
  }

  /** Says that t failed in a trial while the server answered another one, before and after. @param {Transport} t */
  blame(t) {
    const doubt = this.#doubts.get(t);
    if (!doubt) return;
    doubt.length = Math.min(doubt.length * LATER, LATEST_TRIAL);
    doubt.due = this.#now() + doubt.length;
  }

  /** Forgets what failed, and says whether anything was left out: a refusal is final only when no other transport is left. */
  forget() {
    const some = this.candidates().length < this.#transports.length;
    this.#doubts.clear();
    return some;
  }

  /** How long the next long-poll may wait, in ms. */
  pollTimeout() {
    return this.#now() < this.#shortened.until ? this.#shortened.timeout : LONGEST_POLL;
  }

  /** Says that something on the way cut a poll after ms: the next ones stay well below that for a while. @param {number} ms */
  pollCut(ms) {
    if (ms < SHORTEST_POLL) return; // refused, not cut
    this.#shortened = { timeout: Math.max(SHORTEST_POLL, Math.min(ms / 2, this.pollTimeout())), until: this.#now() + SHORT_FOR };
  }

  /** @param {Transport} t */
  #betterThan(t) {
    return this.#transports.slice(0, this.#transports.indexOf(t));
  }

  /** @param {Doubt | undefined} doubt */
  #isDue(doubt) {
    return doubt !== undefined && !doubt.trying && this.#now() >= doubt.due;
  }

  /** @param {Transport} t @param {number} least @param {number} now */
  #doubt(t, least, now) {
    const before = this.#doubts.get(t);
    const length = before?.length ?? FIRST_TRIAL;
    this.#doubts.set(t, {
      due: now + length, length, least: Math.max(before?.least ?? 0, least), trying: before?.trying ?? false,
    });
    if (this.#doubts.size === this.#transports.length) this.#doubts.clear();
  }
}
