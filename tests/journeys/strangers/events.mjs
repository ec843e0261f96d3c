// MCP Events through the AI SDK's client, which keeps its own subscriptions. Arguments, as JSON:
// {modules, token, discovery, callback}: `callback` is the port its endpoint listens on.
// A line on stdin is where the server is; `{"restart": true}` on stdout asks for another, after which the same subscription
// goes on. Prints what it saw as its last line; ends with a stack trace where something is not as promised.
import assert from "node:assert/strict";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const { modules, token, discovery, callback } = JSON.parse(process.argv[2]);
const require = createRequire(join(modules, "any.js"));
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { createMCPClient, experimental_createMCPEventWebhook: createWebhook, ...apps } = await load("@ai-sdk/mcp");
const { Webhook } = require("standardwebhooks");

const SOON_MS = 20_000;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const told = async () => (await lines.next()).value;
const secret = (byte) => "whsec_" + Buffer.alloc(32, byte).toString("base64");

// --- where the client keeps its subscriptions, and the endpoint it is called back at ---------------------

const kept = new Map();
const store = {
  get: async (key) => structuredClone(kept.get(key)),
  getById: async (id) => structuredClone([...kept.values()].find((one) => one.id === id)),
  set: async (one) => void kept.set(one.key, structuredClone(one)),
  update: async (key, change) => void (kept.has(key) && kept.set(key, { ...kept.get(key), ...structuredClone(change) })),
  delete: async (key) => void kept.delete(key),
};

const got = []; // {event, subscription, headers, body} as the client's own check let them through
const ordinary = []; // {headers, body} of webhooks that are none of MCP Events
const statuses = [];
const faults = [];
let stir = () => {};

const handle = createWebhook({
  store,
  onEvent: async ({ event, subscription }) => void got.push({ event, subscription }),
  onError: (error) => faults.push(String(error)),
});

const endpoint = createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  if (request.url.startsWith("/ordinary")) {
    ordinary.push({ headers: request.headers, body });
    response.writeHead(204).end();
  } else {
    const before = got.length;
    const answer = await handle(new Request(`http://127.0.0.1:${callback}${request.url}`, { method: request.method, headers: request.headers, body }));
    if (got.length > before) Object.assign(got.at(-1), { headers: request.headers, body });
    statuses.push(answer.status);
    response.writeHead(answer.status, Object.fromEntries(answer.headers)).end(Buffer.from(await answer.arrayBuffer()));
  }
  stir();
});
await new Promise((resolve) => endpoint.listen(callback, "127.0.0.1", resolve));

async function until(true_, what) {
  const late = Date.now() + SOON_MS;
  while (!true_()) {
    assert.ok(Date.now() < late, `never: ${what}; got ${JSON.stringify(got.map((one) => one.event))}, answered ${statuses}, ${faults}`);
    await new Promise((resolve) => {
      stir = resolve;
      setTimeout(resolve, 500);
    });
  }
}

// --- the server ------------------------------------------------------------------------------------------

let base;
async function connect() {
  base = await told();
  return createMCPClient({
    transport: { type: "http", url: `${base}/mcp`, headers: { Authorization: `Bearer ${token}` } },
    protocolVersionDiscovery: discovery,
    capabilities: apps.mcpAppClientCapabilities,
    experimental_events: { store },
  });
}

async function rest(method, path, body) {
  const answer = await fetch(base + path, {
    method,
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  assert.ok(answer.ok, `${path}: ${answer.status} ${await answer.clone().text()}`);
  return answer.json();
}

/** Makes an inbox event and runs it now: the occurrence's id. */
async function due(name) {
  const event = await rest("POST", "/events", { name, schedule: "in 1 day", action: { type: "inbox" } });
  return (await rest("POST", `/events/${event.id}/trigger`)).id;
}

const heard = (occurrence, key) =>
  got.find(({ event, subscription }) => event.eventId === occurrence && subscription.delivery.url.includes(key));

function subscribe(client, delivery = {}) {
  return client.experimental_events.subscribe({
    name: "occurrence.due",
    delivery: { mode: "webhook", url: `http://127.0.0.1:${callback}/events?tenant=1`, allowInsecureLocalhost: true, ...delivery },
    ttlMs: 3_600_000,
  });
}

// --- the journey -----------------------------------------------------------------------------------------

let client = await connect();
const listed = (await client.experimental_events.list()).events;
for (const one of listed) assert.ok(one.delivery.includes("webhook"), one.name);

const old = secret(1);
const first = await subscribe(client, { secret: old });
const [{ key }] = kept.values();
assert.deepEqual([statuses, first.truncated, kept.get(key).status], [[200], false, "active"]); // the challenge, and no more
const life = Date.parse(first.refreshBefore) - Date.now();
assert.ok(life > 3_500_000 && life <= 3_601_000, first.refreshBefore);

const one = await due("Water the plants");
await until(() => heard(one, key), "the first event");
const { event, subscription, headers, body } = heard(one, key);
assert.equal(subscription.id, first.id);
assert.equal(event.data.occurrence_id, one);
assert.equal(event.data.untrusted.name, "Water the plants");
assert.deepEqual(new Webhook(old).verify(body.toString(), headers), JSON.parse(body));
assert.throws(() => new Webhook(secret(9)).verify(body.toString(), headers));

// Refreshed by key and by id, nobody is challenged again and it is the same subscription.
const challenges = statuses.length;
for (const how of [{ key }, { id: first.id }]) assert.equal((await client.experimental_events.refresh(how)).id, first.id);
assert.equal(statuses.length, challenges);

// A new secret: for a while both sign.
const fresh = secret(2);
await store.update(key, { delivery: { ...kept.get(key).delivery, secret: fresh } });
await client.experimental_events.refresh({ key });
const two = await due("after the rotation");
await until(() => heard(two, key), "an event after the rotation");
for (const each of [old, fresh]) new Webhook(each).verify(heard(two, key).body.toString(), heard(two, key).headers);

// The server ends and comes again; the subscription was kept, and its refresh goes on where it stood.
await client.close();
console.log(JSON.stringify({ restart: true }));
client = await connect();
const three = await due("after the restart");
await until(() => heard(three, key), "an event after the restart");
const again = await client.experimental_events.refresh({ key });
assert.deepEqual([again.id, again.truncated], [first.id, false]);

// One is ended, the other goes on: what is told to it alone was not told to the first.
await subscribe(client);
const other = [...kept.keys()].find((each) => each !== key);
await client.experimental_events.unsubscribe({ id: first.id });
assert.ok(!kept.has(key));
const four = await due("after the end");
await until(() => heard(four, other), "an event for the other subscription");
assert.equal(heard(four, key), undefined);
await client.experimental_events.unsubscribe({ key: other });

// An ordinary webhook is of Standard Webhooks too.
const hook = { type: "webhook", params: { url: `http://127.0.0.1:${callback}/ordinary` } };
const program = await rest("POST", "/events", { name: "ordinary", schedule: "in 1 day", action: hook, hmac_secret: old });
const run = await rest("POST", `/events/${program.id}/trigger`);
await until(() => ordinary.length, "an ordinary webhook");
new Webhook(old).verify(ordinary[0].body.toString(), ordinary[0].headers);
assert.equal(ordinary[0].headers["webhook-id"], run.id);

// The app beside a tool, as this client finds it.
const [uri] = (await client.listTools()).tools.map((tool) => tool._meta?.ui?.resourceUri).filter(Boolean);
const app = await apps.readMCPAppResource({ client, uri });
assert.ok(app.html.startsWith("<!DOCTYPE html>"));

await client.close();
endpoint.close();
endpoint.closeAllConnections();
console.log(JSON.stringify({ types: listed.map((each) => each.name), faults, refused: statuses.filter((each) => each >= 300 && each !== 503), app: app.uri }));
process.exit(0);
