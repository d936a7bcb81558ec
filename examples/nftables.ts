/**
 * nftables without `nft`: loads a table that counts what goes to port 9, knocks there once, and reads the counter back.
 * Needs root; works in a network namespace of its own and deletes it.
 */
import { openNetlink } from '../src/netlink/index.ts';
import { Batch, listRules, match, NftablesError, ruleCounter, statement } from '../src/netlink/nftables/index.ts';
import { setLink } from '../src/netlink/route/index.ts';
import { createNamespace, deleteNamespace } from '../src/netns/index.ts';
import { connect } from '../src/socket/index.ts';

const name = `example-nftables-${process.pid}`;
const namespace = createNamespace(name);
try {
  using route = openNetlink({ family: 'route', namespace });
  setLink(route, 'lo', { up: true });
  using netfilter = openNetlink({ family: 'netfilter', namespace });

  const table = { family: 'ip', name: 'example' } as const;
  const friends = { table, name: 'friends', keyType: 'ipv4_addr' } as const;
  const base = { type: 'filter', hook: 'input', priority: 0, policy: 'accept' } as const;
  new Batch()
    .addTable(table)
    .addSet(friends)
    .addElements(friends, [{ key: '127.0.0.1', comment: 'this machine' }])
    .addChain({ table, name: 'in', base })
    .addRule({
      table,
      chain: 'in',
      expressions: [...match.sourceInSet('friends'), ...match.destinationPort('tcp', 9), ...statement.counter()],
      comment: 'discard',
    })
    .commit(netfilter);

  // Nobody listens, so this is refused; its first packet was counted all the same.
  await connect({ namespace, host: '127.0.0.1', port: 9 }).catch((error) => console.log(error.message));
  for (const rule of listRules(netfilter, table)) {
    console.log(`rule ${rule.comment}: ${ruleCounter(rule)?.packets} packet of ${ruleCounter(rule)?.bytes} bytes`);
  }

  try {
    new Batch().addRule({ table, chain: 'out', expressions: statement.drop(), comment: 'typo' }).commit(netfilter);
  } catch (error) {
    if (error instanceof NftablesError) console.log(error.message);
    else throw error;
  }
} finally {
  namespace.close();
  deleteNamespace(name);
}
