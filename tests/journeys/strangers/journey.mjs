// The main job through the TypeScript client. Arguments, as JSON:
// {modules, mode: "legacy" | "auto", url, token} over HTTP, or {modules, mode, command, args, env} over stdio.
// Prints what it saw as one line of JSON; ends with a stack trace where something is not as promised.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const { modules, mode, url, token, command, args, env } = JSON.parse(process.argv[2]);
const require = createRequire(join(modules, "any.js"));
const { Client, StreamableHTTPClientTransport } = require("@modelcontextprotocol/client");
const { StdioClientTransport } = require("@modelcontextprotocol/client/stdio");

const INBOX = "qhronos://inbox";
const NOTIFIED_WITHIN_MS = 15_000;

const transport = url
  ? new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers: { Authorization: `Bearer ${token}` } } })
  : new StdioClientTransport({ command, args, env, stderr: "inherit" });
const client = new Client(
  { name: "stranger", version: "1" },
  mode === "legacy" ? {} : { versionNegotiation: { mode } },
);

async function call(name, given, options) {
  const result = await client.callTool({ name, arguments: given }, options);
  assert.ok(!result.isError, JSON.stringify(result.content));
  assert.deepEqual(JSON.parse(result.content[0].text), result.structuredContent);
  return result.structuredContent;
}

await client.connect(transport);
const version = client.getNegotiatedProtocolVersion();
const tools = (await client.listTools()).tools.map((tool) => tool.name);

// Hear of what comes into the inbox, in the way of each generation.
const notified = new Promise((resolve) =>
  client.setNotificationHandler("notifications/resources/updated", ({ params }) => resolve(params)),
);
let subscription;
if (mode === "legacy") await client.subscribeResource({ uri: INBOX });
else subscription = await client.listen({ resourceSubscriptions: [INBOX] });

const key = `stranger/${mode}/${url ? "http" : "stdio"}`;
const made = await call("create_event", { name: "Water the plants", schedule: "in 1 hour", key });
assert.equal(made.result, "created");
assert.equal((await call("create_event", { name: "Water the plants", schedule: "in 1 hour", key })).event.id, made.event.id);

// Longer than this client's patience: each sign of progress renews it.
let progress = 0;
const began = performance.now();
const empty = await call("wait_for_occurrences", { seconds: 5 }, {
  timeout: 2_000,
  resetTimeoutOnProgress: true,
  onprogress: () => progress++,
});
const waited = performance.now() - began;
assert.deepEqual(empty.occurrences, []);
assert.ok(waited > 4_900, `waited only ${waited} ms`);

const triggered = await call("trigger", { event_id: key });
const late = new Promise((_, reject) => setTimeout(() => reject(new Error("never notified")), NOTIFIED_WITHIN_MS).unref());
const update = await Promise.race([notified, late]);
assert.equal(update.uri, INBOX);

const { occurrences } = await call("wait_for_occurrences", { seconds: 10 });
assert.deepEqual(occurrences.map((one) => one.id), [triggered.occurrence.id]);
const done = await call("acknowledge_occurrence", { occurrence_id: occurrences[0].id, outcome: "done" });
assert.equal(done.occurrence.status, "completed");

await subscription?.close();
await client.close();
console.log(JSON.stringify({ version, tools, progress }));
