// A real browser, its pages, and the program behind a proxy that keeps its address.
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';
import { Client, newKey } from '../../clients/js/src/index.js';
import { startProxy } from '../../clients/js/test/support/proxy.js';

export const origin = process.env.POSTBUS_ORIGIN;
export const foreignOrigin = process.env.POSTBUS_FOREIGN_ORIGIN;

/** Bounds a test; the time is no assertion about speed. */
export const patience = { timeout: 60_000 };

/** Asks for what happens to the program, and returns where it listens then. */
async function control(what) {
  const response = await fetch(`${process.env.POSTBUS_CONTROL}/${what}`, { method: 'POST' });
  assert.equal(response.status, 200, await response.clone().text());
  return response.text();
}

let address = await control('address');

/** Kills the program with SIGKILL, lets something happen while it is away, and starts it. */
export async function killed(meanwhile = () => {}) {
  await control('kill');
  await meanwhile();
  address = await control('start');
}

/** Stops the program as an operator does, and starts it. */
export async function stopped() {
  assert.equal(await control('stop'), '0');
  address = await control('start');
}

/** A proxy in front of the program, whichever it is then. */
export const front = (t) => startProxy(t, () => address);

/** Sends numbers around every proxy. */
export const send = (channel, ...numbers) => new Client(`http://${address}`, { sendTries: 100 })
  .send(numbers.map((payload) => ({ channel, payload, key: newKey() })));

export const upTo = (count) => Array.from({ length: count }, (_, i) => i);

let channels = 0;
export const fresh = () => `browser ${++channels}`; // for each test its own

let browser;

/** Opens a page of origin in a browser window of its own, without anything that another one left. */
export async function open(t, from = origin, options = {}) {
  browser ??= await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  });
  const context = await browser.newContext(options);
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(from);
  return page;
}

export const close = () => browser?.close();

/** Waits until the page's window.got has so many, and returns it. */
export async function got(page, count) {
  await page.waitForFunction((least) => window.got.length >= least, count, { timeout: patience.timeout });
  return page.evaluate(() => window.got);
}
