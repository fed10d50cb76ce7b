// The declarations are those of the source: neither has a name, an argument or a result that the other has not.
import * as source from '../../src/index.js';
import type * as declared from '@postbus/client';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : never;
/** What is public: #private names are no keys. */
type Public<T> = { [Name in keyof T]: T[Name] };

const module: typeof declared = source;
const names: Equal<keyof typeof source, keyof typeof declared> = true;
const client: Equal<keyof Public<source.Client>, keyof Public<declared.Client>> = true;
const error: Equal<Public<source.PostbusError>, Public<declared.PostbusError>> = true;
const subscription: Equal<keyof Public<import('../../src/subscription.js').Subscription>, keyof declared.Subscription> = true;
const constructed: Equal<ConstructorParameters<typeof source.Client>, ConstructorParameters<typeof declared.Client>> = true;
const sent: Equal<Parameters<source.Client['send']>, Parameters<declared.Client['send']>> = true;
const polled: Equal<Parameters<source.Client['poll']>, Parameters<declared.Client['poll']>> = true;
const subscribed: Equal<Parameters<source.Client['subscribe']>, Parameters<declared.Client['subscribe']>> = true;
export { client, constructed, error, module, names, polled, sent, subscribed, subscription };
