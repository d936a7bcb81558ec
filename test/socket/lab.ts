import { once } from 'node:events';
import type { Server, Socket } from 'node:net';
import { type NetworkNamespace, writeSysctl } from '../../src/netns/index.ts';
import { runIn, vethPair, withNamespaces } from '../support/namespaces.ts';

/**
 * client ── proxy ── server, and addresses that no machine has:
 *
 *     client 10.77.1.1  fd77:1::1 │ 10.77.1.2 fd77:1::2  proxy  10.77.2.1 fd77:2::1 │ 10.77.2.2 fd77:2::2  server
 *
 * Both outer namespaces send everything to the proxy's.
 */
export interface Lab {
  readonly client: NetworkNamespace;
  readonly proxy: NetworkNamespace;
  readonly server: NetworkNamespace;
  /** Closed before the namespaces go. */
  own<T extends { close(): unknown } | { destroy(): unknown }>(thing: T): T;
}

export function withLab(body: (lab: Lab) => Promise<void>): Promise<void> {
  return withNamespaces(['client', 'proxy', 'server'], async (client, proxy, server) => {
    for (const namespace of [client!, proxy!, server!]) {
      writeSysctl(namespace, 'net.ipv4.conf.all.rp_filter', 0);
      writeSysctl(namespace, 'net.ipv4.conf.default.rp_filter', 0);
    }
    vethPair(
      { namespace: client!, device: 'eth0', addresses: ['10.77.1.1/24', 'fd77:1::1/64'] },
      { namespace: proxy!, device: 'inside', addresses: ['10.77.1.2/24', 'fd77:1::2/64'] },
    );
    vethPair(
      { namespace: server!, device: 'eth0', addresses: ['10.77.2.2/24', 'fd77:2::2/64'] },
      { namespace: proxy!, device: 'outside', addresses: ['10.77.2.1/24', 'fd77:2::1/64'] },
    );
    runIn(client!, 'ip', 'route', 'add', 'default', 'via', '10.77.1.2');
    runIn(client!, 'ip', '-6', 'route', 'add', 'default', 'via', 'fd77:1::2');
    runIn(server!, 'ip', 'route', 'add', 'default', 'via', '10.77.2.1');
    runIn(server!, 'ip', '-6', 'route', 'add', 'default', 'via', 'fd77:2::1');
    const owned: ({ close(): unknown } | { destroy(): unknown })[] = [];
    try {
      await body({
        client: client!,
        proxy: proxy!,
        server: server!,
        own(thing) {
          owned.push(thing);
          return thing;
        },
      });
    } finally {
      for (const thing of owned.reverse()) 'destroy' in thing ? thing.destroy() : thing.close();
    }
  });
}

/** Loads rules into a namespace; `ruleset` is nft's own text. */
export function loadRules(namespace: NetworkNamespace, ruleset: string): void {
  runIn(namespace, 'nft', ruleset);
}

/** What is needed for packets of addresses that are not ours to be delivered here, once they carry mark 0x400 (facts 3). */
export function deliverMarkedLocally(namespace: NetworkNamespace): void {
  for (const family of ['-4', '-6']) {
    runIn(namespace, 'ip', family, 'rule', 'add', 'fwmark', '0x400/0xfff', 'lookup', '100');
    runIn(namespace, 'ip', family, 'route', 'add', 'local', 'default', 'dev', 'lo', 'table', '100');
  }
}

/** The next connection that `server` accepts. */
export async function accepted(server: Server): Promise<Socket> {
  const [socket] = (await once(server, 'connection')) as [Socket];
  return socket;
}
