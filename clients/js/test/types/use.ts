// How the client is used from TypeScript: what compiles, and what must not.
import { Client, newKey, PostbusError } from '@postbus/client';
import type { Gap, Notification, SubscriptionState } from '@postbus/client';

interface Order {
  order: number;
}

export async function use(show: (order: Order) => void, lost: (gap: Gap) => void): Promise<void> {
  const bus = new Client('https://app.example.com', { headers: async () => ({ Authorization: 'Bearer …' }), transports: ['sse', 'poll'] });
  const [receipt] = await bus.send([{ channel: 'orders', type: 'paid', payload: { order: 7 }, key: newKey(), ttl: 3_600_000 }]);
  const id: number | undefined = receipt?.id;
  const page = await bus.poll<Order>(['orders'], { after: id ?? null, timeout: 0 });
  page.notifications.forEach((n: Notification<Order>) => n.payload && show(n.payload));

  const onState = (state: SubscriptionState) => {
    if (state.state === 'waiting') console.log(state.wait, state.error);
  };
  const subscription = bus.subscribe<Order>(['orders'], { after: page.last, onState, signal: AbortSignal.timeout(1000) });
  try {
    for await (const { notification, gap, last } of subscription) {
      if (gap) lost(gap);
      if (notification?.payload) show(notification.payload);
      const kept: number = last;
      void kept;
    }
  } catch (error) {
    if (error instanceof PostbusError && error.status === 'INVALID_ARGUMENT') console.error(error.reason, error.details);
  }
  subscription.close();

  // @ts-expect-error a message has a channel
  await bus.send([{ payload: 1 }]);
  // @ts-expect-error a name that is not known
  bus.subscribe(['orders'], { haertbeat: 1 });
  // @ts-expect-error the cursor is the subscription's
  subscription.last = 1;
}
