/**
 * In-pod redirection from plan to kernel and back: a fresh namespace is the pod, a listener the proxy. Prints the plan and its lines
 * for iptables, puts it in force, connects to an address that nobody has, and shows who answered and which rules were visited.
 * Needs root.
 */
import { openNetlink } from '../src/netlink/index.ts';
import { addAddress, addLink, addRoute } from '../src/netlink/route/index.ts';
import { createNamespace, deleteNamespace } from '../src/netns/index.ts';
import { apply, countsBetween, OUTBOUND_PORT, podMode, renderIptables, renderText } from '../src/redirection/index.ts';
import { connect, listen, originalDestination } from '../src/socket/index.ts';

const name = `example-pod-mode-${process.pid}`;
const pod = createNamespace(name);
try {
  using route = openNetlink({ family: 'route', namespace: pod });
  addLink(route, { kind: 'bridge', name: 'eth0', up: true });
  addAddress(route, { device: 'eth0', ip: '10.1.0.2', prefixLength: 24 });
  addRoute(route, { destination: '0.0.0.0/0', gateway: '10.1.0.1' });

  const plan = podMode({ captureDns: false });
  console.log(renderText(plan));
  console.log(renderIptables(plan, 'pod').iptables);

  const redirection = apply(plan, { pod });
  const proxy = await listen({ namespace: pod, host: '127.0.0.1', port: OUTBOUND_PORT });
  proxy.on('connection', (socket) => {
    const { ip, port } = originalDestination(socket);
    socket.end(`the proxy has a connection for ${ip}:${port}\n`);
  });
  const before = redirection.readBack();
  const client = await connect({ namespace: pod, host: '203.0.113.9', port: 80 });
  for await (const chunk of client) process.stdout.write(chunk);
  for (const { id, text, packets } of countsBetween(before, redirection.readBack())) {
    console.log(`  ${id} (${packets}): ${text}`);
  }
  proxy.close();
  redirection.remove();
} finally {
  pod.close();
  deleteNamespace(name);
}
