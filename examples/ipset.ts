/**
 * ipset without `ipset`: makes a set of pods, adds some, replaces all of them at once, and prints what the kernel has. Needs root;
 * works in a network namespace of its own and deletes it.
 */
import { openNetlink } from '../src/netlink/index.ts';
import { addMember, createSet, getSet, IpsetError, listSets, replaceMembers } from '../src/netlink/ipset/index.ts';
import { createNamespace, deleteNamespace } from '../src/netns/index.ts';

const name = `example-ipset-${process.pid}`;
const namespace = createNamespace(name);
try {
  using netlink = openNetlink({ family: 'netfilter', namespace });
  const pods = { name: 'ztunnel-pods-ips', family: 4, comments: true } as const;
  createSet(netlink, pods);
  createSet(netlink, { name: 'ztunnel-pods-ips-v6', family: 6, comments: true });
  addMember(netlink, pods.name, { ip: '10.244.1.10', comment: 'default/sleep' });
  for (const { ip, comment } of getSet(netlink, pods.name)?.members ?? []) console.log(`${ip} is ${comment}`);

  replaceMembers(netlink, pods, [{ ip: '10.244.1.11', comment: 'default/client2' }, { ip: '10.244.1.12' }]);
  for (const set of listSets(netlink)) {
    console.log(`${set.name} (${set.type}, IPv${set.family}): ${set.members.length} members, ${set.memoryBytes} bytes`);
  }

  try {
    addMember(netlink, pods.name, { ip: 'fd00::10' });
  } catch (error) {
    if (error instanceof IpsetError) console.log(`${error.code}: ${error.message}`);
    else throw error;
  }
} finally {
  namespace.close();
  deleteNamespace(name);
}
