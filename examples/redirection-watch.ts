/**
 * A redirection that takes care of itself: what the kernel has is found out, a plan is put in force, somebody flushes the rules and
 * deletes a policy rule, and a watch puts back what they took away, no more. Needs root.
 */
import { openNetlink } from '../src/netlink/index.ts';
import { Batch, listTables } from '../src/netlink/nftables/index.ts';
import { addAddress, addLink, deleteRule, setLink } from '../src/netlink/route/index.ts';
import { createNamespace, deleteNamespace } from '../src/netns/index.ts';
import { apply, differenceText, featuresOf, nodeMode, probe, verify, watch } from '../src/redirection/index.ts';

const names = ['node', 'ztunnel'].map((role) => `example-watch-${process.pid}-${role}`) as [string, string];
const namespaces = { node: createNamespace(names[0]), ztunnel: createNamespace(names[1]) };
try {
  const { node, ztunnel } = namespaces;
  using onNode = openNetlink({ family: 'route', namespace: node });
  using inside = openNetlink({ family: 'route', namespace: ztunnel });
  using rules = openNetlink({ family: 'netfilter', namespace: node });
  addLink(onNode, { kind: 'veth', name: 'vethza', up: true, peer: { name: 'eth0', namespace: ztunnel } });
  addAddress(onNode, { device: 'vethza', ip: '172.18.0.2', prefixLength: 32 });
  setLink(inside, 'eth0', { up: true });

  const plan = nodeMode({ hostIp: '172.18.0.2', ztunnelIp: '10.244.1.2', ztunnelVeth: 'vethza' });
  const kernel = probe();
  for (const feature of featuresOf(plan)) console.log(`${feature}: ${kernel[feature].available ? 'there' : 'missing'}`);

  using redirection = apply(plan, namespaces, { kernel });
  console.log('differences after apply:', verify(plan, namespaces).differences.length);

  const repaired = Promise.withResolvers<void>();
  await using _watching = watch(redirection, {
    signal: AbortSignal.timeout(5000),
    onEvent: (event) => {
      console.log(`event: ${event.type}`);
      if ('differences' in event)
        for (const difference of event.differences) console.log(`  ${differenceText(difference)}`);
      if (event.type === 'repaired' || event.type === 'ended') repaired.resolve();
    },
  });
  const flush = new Batch();
  for (const table of listTables(rules)) flush.deleteTable(table);
  flush.commit(rules);
  deleteRule(onNode, { family: 4, priority: 101 });
  console.log('flushed; differences:', verify(plan, namespaces).differences.length);
  await repaired.promise;
  console.log('differences now:', verify(plan, namespaces).differences.length);
} finally {
  for (const namespace of Object.values(namespaces)) namespace.close();
  for (const name of names) deleteNamespace(name);
}
