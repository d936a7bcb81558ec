import { addConntrack } from '../netlink/conntrack/index.ts';
import { NetlinkError } from '../netlink/index.ts';
import { Batch, match, statement, type Table } from '../netlink/nftables/index.ts';
import { EEXIST, IPPROTO_TCP } from '../system/index.ts';
import type { Place } from './kernel.ts';
import { openConnections } from './open-connections.ts';
import { familiesOf, type RedirectionPlan } from './plan.ts';
import type { Transaction } from './transaction.ts';

/** `nf_conntrack_tcp_timeout_established` as kernels have it; the first packet sets what the namespace has. */
const ESTABLISHED_SECONDS = 432_000;

/**
 * Makes the kernel know the connections of a namespace's sockets before NAT rules come. A namespace without such rules does not track
 * connections, so the rules would meet these in the middle, take their next packets for first ones and redirect them to a proxy,
 * which has never heard of them and resets them. An entry that says they are established keeps every nat rule away.
 *
 * @returns tables that keep connection tracking going until the rules do; to be taken away by the transaction that adds the rules
 */
export function keepConnections(transaction: Transaction, place: Place, plan: RedirectionPlan): Table[] {
  const tables = familiesOf(plan).map(
    (family): Table => ({
      family: family === 4 ? 'ip' : 'ip6',
      name: `${plan.name}-tracking`,
    }),
  );
  const step = `${place.role}: open connections`;
  transaction.step(
    step,
    () => trackingTables(tables).commit(place.netfilter),
    () => tables.reduce((batch, table) => batch.destroyTable(table), new Batch()).commit(place.netfilter),
  );
  // From here on new connections are tracked by themselves. What is added is not undone: without rules an entry does nothing.
  transaction.step(step, () => trackOpenConnections(place));
  return tables;
}

/** Conntrack is on where a rule asks for it, whether or not the rule's chain is ever called. */
function trackingTables(tables: readonly Table[]): Batch {
  const batch = new Batch();
  for (const table of tables) {
    const expressions = [...match.ctState('established'), ...statement.accept()];
    batch.addTable(table).addChain({ table, name: 'tracking' });
    batch.addRule({ table, chain: 'tracking', expressions });
  }
  return batch;
}

function trackOpenConnections({ namespace, netfilter }: Place): void {
  for (const { local, remote } of openConnections(namespace)) {
    const original = {
      source: local.ip,
      sourcePort: local.port,
      destination: remote.ip,
      destinationPort: remote.port,
      protocol: IPPROTO_TCP,
    };
    try {
      addConntrack(netfilter, { original, tcpState: 'ESTABLISHED', timeoutSeconds: ESTABLISHED_SECONDS });
    } catch (error) {
      // Tracked already: by its own packets meanwhile, or as the other end of a connection within the namespace.
      if (!(error instanceof NetlinkError) || error.errno !== EEXIST) throw error;
    }
  }
}
