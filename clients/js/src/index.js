// The client of Postbus for browsers and Node. ../index.d.ts describes it.
export { Client, newKey } from './client.js';
export { PostbusError } from './errors.js';
