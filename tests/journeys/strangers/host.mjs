// A host of MCP Apps: the protocol's own bridge, and the TypeScript client to the server. Its page is elsewhere: what the
// app says comes as lines on stdin, what it is told goes out as lines on stdout: first {html, csp}, then {tell: message},
// {size} when it says how large it is, {fault} where it broke the protocol; {ended} after the line `end`.
// Arguments, as JSON: {modules, url, token, arguments}: those the tool is called with.
import assert from "node:assert/strict";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const { modules, url, token, arguments: given } = JSON.parse(process.argv[2]);
const load = (name) => import(pathToFileURL(join(modules, name)).href);
const { Client, StreamableHTTPClientTransport } = await load("@modelcontextprotocol/client/dist/index.mjs");
const { AppBridge, getToolUiResourceUri, isToolVisibilityModelOnly } = await load("@modelcontextprotocol/ext-apps/dist/src/app-bridge.js");

const say = (line) => console.log(JSON.stringify(line));
const headers = { Authorization: `Bearer ${token}` };
const client = new Client({ name: "host", version: "1" });
await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }));

const { tools } = await client.listTools();
const tool = tools.find(getToolUiResourceUri);
assert.ok(!isToolVisibilityModelOnly(tool));
const { contents } = await client.readResource({ uri: getToolUiResourceUri(tool) });
assert.equal(contents[0].mimeType, "text/html;profile=mcp-app");

const bridge = new AppBridge(client, { name: "host", version: "1" }, { serverTools: {}, logging: {} }, {
  hostContext: { theme: "dark", toolInfo: { tool }, locale: "en-GB", timeZone: "UTC", containerDimensions: { width: 720 } },
});
bridge.onsizechange = (size) => say({ size });
bridge.oninitialized = async () => {
  await bridge.sendToolInput({ arguments: given });
  await bridge.sendToolResult(await client.callTool({ name: tool.name, arguments: given }));
};
bridge.onerror = (error) => say({ fault: String(error) });

const transport = {
  start: async () => {},
  send: async (message) => say({ tell: message }),
  close: async () => {},
};
await bridge.connect(transport);
say({ html: contents[0].text, csp: contents[0]._meta.ui.csp });
createInterface({ input: process.stdin }).on("line", async (line) => {
  if (line !== "end") return transport.onmessage(JSON.parse(line));
  await bridge.teardownResource({});
  say({ ended: true });
  process.exit(0);
});
