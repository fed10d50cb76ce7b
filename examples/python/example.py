"""Sends to Postbus and reads from it, and goes on where a connection broke."""
import argparse
import os
import random
import sys
import time
import uuid

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "generated"))
import grpc  # noqa: E402
from postbus.v1 import bus_pb2, bus_pb2_grpc  # noqa: E402

INCURABLE = (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED,
             grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED)


def send(bus, messages):
    """Repeats until it is known to be stored: with keys, it is stored once."""
    for last_try in [False] * 9 + [True]:
        try:
            return bus.Send(bus_pb2.SendRequest(messages=messages), timeout=10).results
        except grpc.RpcError as error:
            if error.code() in INCURABLE or last_try:
                raise
            time.sleep(random.uniform(0, 2))


def responses(bus, channels):
    """Yields responses for ever; after a break it goes on behind the last one."""
    after, bound = None, 0.2  # None: from now on
    while True:
        request = bus_pb2.SubscribeRequest(channels=channels, after=after)
        try:
            for response in bus.Subscribe(request):
                after, bound = response.last, 0.2
                yield response
        except grpc.RpcError as error:
            if error.code() in INCURABLE:
                raise
            print("reconnecting:", error.details(), file=sys.stderr)
        time.sleep(random.uniform(0, bound))
        bound = min(2 * bound, 30)


def main():
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--server", default=os.environ.get("POSTBUS_SERVER", "127.0.0.1:8073"))
    flags.add_argument("--channel", default="example")
    flags.add_argument("--count", type=int, default=3, help="send this many, and end after this many")
    args = flags.parse_args()
    # Keepalive ends a stream whose server vanished without a word.
    options = [("grpc.keepalive_time_ms", 30000), ("grpc.keepalive_timeout_ms", 10000)]
    with grpc.insecure_channel(args.server, options=options) as channel:
        bus, sent, received = bus_pb2_grpc.BusServiceStub(channel), False, 0
        for response in responses(bus, [args.channel]):
            if not sent:  # the first response: from here on nothing is missed
                sent = send(bus, [bus_pb2.Message(channel=args.channel, type="example", json='{"number": %d}' % n,
                                                  key=str(uuid.uuid4())) for n in range(args.count)])
            if response.HasField("gap"):
                print("lost:", response.gap.after, response.gap.until, flush=True)
            for n in response.notifications:
                print(n.id, n.channel, n.type, n.json or n.binary, flush=True)
                received += 1
            if received >= args.count:
                return


if __name__ == "__main__":
    main()
