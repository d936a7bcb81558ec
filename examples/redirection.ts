/**
 * A node-mode redirection from plan to kernel and back: planned, printed, put in force in two fresh network namespaces, a pod
 * enrolled, one packet sent to it, the rules it visited read back by their ids, everything taken away. Needs root.
 */
import { openNetlink } from '../src/netlink/index.ts';
import { addAddress, addLink, addRoute, setLink } from '../src/netlink/route/index.ts';
import { createNamespace, deleteNamespace } from '../src/netns/index.ts';
import { apply, countsBetween, nodeMode, renderText } from '../src/redirection/index.ts';
import { connect } from '../src/socket/index.ts';

const names = ['node', 'ztunnel'].map((role) => `example-redirection-${process.pid}-${role}`) as [string, string];
const namespaces = { node: createNamespace(names[0]), ztunnel: createNamespace(names[1]) };
try {
  const { node, ztunnel } = namespaces;
  using onNode = openNetlink({ family: 'route', namespace: node });
  using inside = openNetlink({ family: 'route', namespace: ztunnel });
  addLink(onNode, { kind: 'veth', name: 'vethza', peer: { name: 'eth0', namespace: ztunnel } });
  addLink(onNode, { kind: 'bridge', name: 'vethsleep' });
  addAddress(onNode, { device: 'vethza', ip: '172.18.0.2', prefixLength: 32 });
  addAddress(inside, { device: 'eth0', ip: '10.244.1.2', prefixLength: 32 });
  for (const device of ['lo', 'vethza', 'vethsleep']) setLink(onNode, device, { up: true });
  setLink(inside, 'eth0', { up: true });
  addRoute(onNode, { destination: '10.244.1.10/32', device: 'vethsleep' });

  const plan = nodeMode({ hostIp: '172.18.0.2', ztunnelIp: '10.244.1.2', ztunnelVeth: 'vethza' });
  console.log(renderText(plan));

  const redirection = apply(plan, namespaces);
  redirection.addPod({ ip: '10.244.1.10', veth: 'vethsleep', comment: 'default/sleep' });
  console.log('enrolled:', redirection.readBack().pods.join(', '));

  const before = redirection.readBack();
  // There is no pod behind the device, so nobody answers the node's probe.
  await connect({ namespace: node, host: '10.244.1.10', port: 80, timeoutMs: 200 }).catch(() => {});
  console.log('a probe of the pod by its node visited:');
  for (const { id, text, packets } of countsBetween(before, redirection.readBack())) {
    console.log(`  ${id} (${packets}): ${text}`);
  }
  redirection.remove();
} finally {
  for (const namespace of Object.values(namespaces)) namespace.close();
  for (const name of names) deleteNamespace(name);
}
