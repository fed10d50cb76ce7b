#!/bin/sh
# Sends to Postbus and reads by long-poll, with curl and jq: example.sh [CHANNEL [COUNT]]
set -eu
server=${POSTBUS_HTTP:-http://127.0.0.1:8072}
channel=${1:-example}
count=${2:-3}

post() {
	curl --silent --show-error --fail-with-body --max-time 60 --retry 5 --retry-connrefused \
		--header 'Content-Type: application/json' --data-binary @- "$server$1"
}

# Where the bus is now: what is sent from here on is not missed.
after=$(jq -n --arg c "$channel" '{channels: [$c], timeout: "0s"}' | post /v1/poll | jq .last)

# With a key for each message a repeated request stores it once.
jq -n --arg c "$channel" --argjson count "$count" --arg key "$(date +%s%N).$$" \
	'{messages: [range($count) | {channel: $c, type: "example", payload: {number: .}, key: "\($key).\(.)"}]}' |
	post /v1/send >/dev/null

received=0
while [ "$received" -lt "$count" ]; do
	page=$(jq -n --arg c "$channel" --argjson after "$after" '{channels: [$c], after: $after}' | post /v1/poll)
	printf '%s\n' "$page" | jq --compact-output '.gap // empty | {gap: .}'
	printf '%s\n' "$page" | jq --compact-output '.notifications[]'
	after=$(printf '%s\n' "$page" | jq .last) # the cursor of the next poll, after a break too
	received=$((received + $(printf '%s\n' "$page" | jq '.notifications | length')))
done
