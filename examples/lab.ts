/**
 * A lab of two nodes without a mesh: a pod asks a ClusterIP, a packet socket on the link between the nodes reads the question in
 * plain text, and the kernel says where a captured packet would go. Needs root.
 */
import { createLab, lookupRoute, PacketCapture, twoNodes } from '../src/lab/index.ts';
import { openNetlink } from '../src/netlink/index.ts';
import { connect, listen } from '../src/socket/index.ts';

await using lab = await createLab(twoNodes(`example-lab-${process.pid}-`), {
  redirect: false,
  onProgress: (step) => console.log('building', step),
});

const server = await listen({ namespace: lab.namespace('httpbin'), host: '10.244.2.10', port: 80 });
server.on('connection', (socket) => socket.on('data', (data) => socket.end(`${socket.remoteAddress} said ${data}`)));

const seen: string[] = [];
using capture = PacketCapture.open(lab.namespace('node-a'), 'eth0', ({ destination, destinationPort, payload }) => {
  if (payload.length > 0) seen.push(`to ${destination}:${destinationPort}: ${payload.toString('latin1')}`);
});
const client = await connect({ namespace: lab.namespace('sleep'), host: '10.96.0.105', port: 80 });
client.write('hello');
for await (const answer of client) console.log('httpbin answers:', String(answer));
capture.drain();
for (const line of seen) console.log('on the link', line);
server.close();

using route = openNetlink({ family: 'route', namespace: lab.namespace('node-a') });
const packet = { source: '10.244.1.10', destination: '10.96.0.105', device: 'vethsleep' };
console.log('a packet of sleep to the ClusterIP would go by', lookupRoute(route, packet));
