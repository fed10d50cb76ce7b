import { PostbusError } from './errors.js';
import { pause } from './time.js';
import { seconds } from './wire.js';

/** How much longer than its timeout a poll may take, in ms. */
export const POLL_MARGIN = 10_000;

/** The most notifications of one poll. */
const MOST = 1000;

/** An answer that brings nothing, sooner than this, was no long-poll: not more than about one of these a second. In ms. */
const TOO_SOON = 1000;

/**
 * Subscribe by polling. The first poll answers at once, which shows that it is answered at all and, to who begins with what comes
 * from now on, where now is. It throws when a poll fails.
 * @param {import('./transports.js').Line} line
 * @returns {AsyncGenerator<import('./wire.js').Answer, void>}
 */
export async function* longPolls(line) {
  for (let wait = 0; ; wait = line.choice.pollTimeout()) {
    const before = line.after();
    const began = performance.now();
    const body = JSON.stringify({ channels: line.channels, after: before, timeout: seconds(wait, 'timeout'), max: MOST });
    let answer;
    try {
      const most = wait === 0 ? line.openTimeout : wait + POLL_MARGIN;
      answer = line.reader.response(await line.http.ask('v1/poll', body, most, line.signal));
    } catch (error) {
      if (error instanceof PostbusError && !error.fromServer) line.choice.pollCut(performance.now() - began);
      throw error;
    }
    yield answer;
    if (wait > 0 && line.after() === before && performance.now() - began < Math.min(wait, TOO_SOON)) {
      await pause(TOO_SOON * (0.5 + Math.random()), line.signal);
    }
  }
}
