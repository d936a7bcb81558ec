/**
 * The two-node mesh of the seed articles, put together from the library's modules alone: namespaces and redirection (`lab`), an
 * authority (`identity`), a proxy per node (`ztunnel`) in this very process, a server in the httpbin pod and a client in the sleep
 * pod (`socket`), one request across, and what the kernel counted (`redirection`). Needs root. `ambient demo` is the long form.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CertificateAuthority } from '../src/identity/index.ts';
import { createLab, PacketCapture, twoNodes } from '../src/lab/index.ts';
import { listConntrack } from '../src/netlink/conntrack/index.ts';
import { openNetlink } from '../src/netlink/index.ts';
import { countsBetween } from '../src/redirection/index.ts';
import { connect, listen } from '../src/socket/index.ts';
import { startZtunnel } from '../src/ztunnel/index.ts';

const trustDomain = 'cluster.local';
const description = twoNodes(`two-nodes-${process.pid}-`);

/** A registry of the pods and the service, in ztunnel's own file form. */
const workloads = description.nodes.flatMap((node) =>
  node.pods.map(({ name, ip }) => ({
    name,
    namespace: 'default',
    serviceAccount: name,
    trustDomain,
    node: node.name,
    protocol: 'HBONE',
    workloadIps: [ip],
    services: name === 'httpbin' ? { 'default/httpbin.default.svc.cluster.local': { 80: 80 } } : {},
  })),
);
const httpbin = { name: 'httpbin', namespace: 'default', hostname: 'httpbin.default.svc.cluster.local' };
const services = [{ ...httpbin, vips: ['/10.96.0.105'], ports: { 80: 80 } }];

const directory = await mkdtemp(join(tmpdir(), 'two-nodes-'));
try {
  // YAML is a superset of JSON.
  const meshPath = join(directory, 'mesh.yaml');
  await writeFile(meshPath, JSON.stringify({ workloads, services }));

  await using lab = await createLab(description, { onProgress: (step) => console.log('building', step) });

  const root = await CertificateAuthority.create({ trustDomain });
  const startProxy = async ({ name, ztunnel }: (typeof description.nodes)[number]) =>
    startZtunnel({
      namespace: lab.namespace(ztunnel.name),
      nodeName: name,
      trustDomain,
      discovery: { path: meshPath },
      authority: (await root.createIntermediate({ name })).export(),
      accessLog: { path: join(directory, 'access.log') },
    });
  await using _proxyA = await startProxy(lab.node('node-a'));
  await using _proxyB = await startProxy(lab.node('node-b'));

  const server = await listen({ namespace: lab.namespace('httpbin'), host: '10.244.2.10', port: 80 });
  server.on('connection', (socket) => {
    socket.on('data', (question) => socket.end(`httpbin, asked by ${socket.remoteAddress}: ${question}`));
  });

  let tunnelled = 0;
  let readable = 0;
  using capture = PacketCapture.open(lab.namespace('node-a'), 'eth0', ({ payload, ...segment }) => {
    if (segment.destinationPort === 15008 || segment.sourcePort === 15008) tunnelled++;
    if (payload.includes('a secret')) readable++;
  });
  const redirection = lab.redirection('node-a')!;
  const before = redirection.readBack();

  const client = await connect({ namespace: lab.namespace('sleep'), host: '10.96.0.105', port: 80 });
  const clientPort = client.localPort!;
  client.write('a secret');
  for await (const answer of client) console.log('answer:        ', String(answer));

  capture.drain();
  console.log(`on the link:    ${tunnelled} segments of port 15008, ${readable} that can be read`);
  for (const { id, packets, text } of countsBetween(before, redirection.readBack())) {
    console.log(`node-a counted: ${String(packets).padStart(3)} ${id.padEnd(17)} ${text}`);
  }
  using netfilter = openNetlink({ family: 'netfilter', namespace: lab.namespace('node-a') });
  const original = { source: '10.244.1.10', sourcePort: clientPort, destination: '10.96.0.105' };
  for (const { reply, mark } of listConntrack(netfilter, { original })) {
    console.log(`conntrack:      answered by ${reply.source}:${reply.sourcePort}, mark 0x${mark.toString(16)}`);
  }
  server.close();
  console.log(await readFile(join(directory, 'access.log'), 'utf8'));
} finally {
  await rm(directory, { recursive: true });
}
