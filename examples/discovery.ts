// Reads a mesh from a YAML file, follows the file, and asks where connections would go. Needs no root.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createFileSource, MeshState, selectEndpoint } from '../src/discovery/index.ts';

const mesh = (endpoints: readonly string[]) => `
workloads:
- {name: sleep, namespace: default, workloadIps: [10.1.0.5], node: node-a, services: {}}
${endpoints
  .map(
    (ip, at) => `- name: httpbin-${at + 1}
  namespace: default
  workloadIps: [${ip}]
  protocol: HBONE
  node: node-b
  services: {default/httpbin.default.svc.cluster.local: {80: 8080}}
`,
  )
  .join('')}
services:
- name: httpbin
  namespace: default
  hostname: httpbin.default.svc.cluster.local
  vips: [/10.96.0.105]
  ports: {80: 8080}
`;

const directory = await mkdtemp(join(tmpdir(), 'ambient-discovery-'));
const path = join(directory, 'mesh.yaml');
const state = new MeshState();

/** Resolves at the next word from the source. */
let heard = () => {};
const change = async (content: string) => {
  const next = new Promise<void>((resolve) => {
    heard = resolve;
  });
  await writeFile(path, content);
  await next;
};

function show(): void {
  const source = state.workload('local//default/sleep')!;
  const service = state.serviceAt('', '10.96.0.105')!;
  const picked = new Set<string>();
  for (let turn = 0; turn < 100; turn++) {
    const upstream = selectEndpoint(state, { service, source, port: 80, random: Math.random });
    if (upstream) picked.add(`${upstream.workload.name} at ${upstream.ip}:${upstream.port}`);
  }
  console.log(`10.96.0.105:80 leads to ${[...picked].sort().join(', ')}`);
}

await writeFile(path, mesh(['10.2.0.9']));
await using source = await createFileSource({
  path,
  onSnapshot: (snapshot) => {
    state.replace(snapshot);
    heard();
  },
  onError: (error) => {
    console.log(`refused: ${error.message.replace(directory, '')}`);
    heard();
  },
});
show();

await change(mesh(['10.2.0.9', '10.2.0.10']));
show();

await change(mesh(['10.2.0.9', '10.2.0.999']));
show();
console.log(`in force: ${source.current.workloads.length} workloads, as before the fault`);
await rm(directory, { recursive: true });
