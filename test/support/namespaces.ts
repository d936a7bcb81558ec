import { createNamespace, deleteNamespace, type NetworkNamespace, writeSysctl } from '../../src/netns/index.ts';
import { run } from './require.ts';

let made = 0;

/**
 * Fresh namespaces for one test, deleted whatever happens. Their names are `akt-<pid>-<count>-<label>`, so that test files running
 * beside each other never meet and a leftover shows whose it is.
 */
export async function withNamespaces<T>(
  labels: readonly string[],
  body: (...namespaces: NetworkNamespace[]) => T | Promise<T>,
): Promise<T> {
  const namespaces: NetworkNamespace[] = [];
  try {
    for (const label of labels) namespaces.push(createNamespace(`akt-${process.pid}-${made++}-${label}`));
    return await body(...namespaces);
  } finally {
    for (const namespace of namespaces) {
      namespace.close();
      deleteNamespace(namespace.name!, { missingOk: true });
    }
  }
}

/** Runs a real tool inside a namespace: `runIn(node, 'nft', 'list', 'ruleset')`. */
export function runIn(namespace: NetworkNamespace, command: string, ...args: string[]): string {
  return namespace.run(() => run(command, ...args));
}

/** One end of a pair: its device name and its addresses with prefix length. */
export interface VethEnd {
  readonly namespace: NetworkNamespace;
  readonly device: string;
  readonly addresses: readonly string[];
}

/** A veth pair between two namespaces, both ends up with their addresses (IPv6 without duplicate address detection), `lo` too. */
export function vethPair(a: VethEnd, b: VethEnd): void {
  // Without this, IPv6 sends nothing for a second: the link-local address waits for duplicates.
  for (const { namespace } of [a, b]) writeSysctl(namespace, 'net.ipv6.conf.default.accept_dad', 0);
  const peer = ['peer', 'name', b.device, 'netns', b.namespace.name!];
  runIn(a.namespace, 'ip', 'link', 'add', a.device, 'type', 'veth', ...peer);
  for (const { namespace, device, addresses } of [a, b]) {
    for (const address of addresses) {
      runIn(namespace, 'ip', 'address', 'add', address, 'dev', device, ...(address.includes(':') ? ['nodad'] : []));
    }
    runIn(namespace, 'ip', 'link', 'set', 'lo', 'up');
    runIn(namespace, 'ip', 'link', 'set', device, 'up');
  }
}
