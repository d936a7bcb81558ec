import type { NetworkNamespace } from '../../src/netns/index.ts';
import { runIn, vethPair, withNamespaces } from '../support/namespaces.ts';

/** Two namespaces with the proxy's cable between them, and a device for pods: as much as a node-mode plan needs. */
export async function withNode(
  body: (node: NetworkNamespace, ztunnel: NetworkNamespace) => void | Promise<void>,
): Promise<void> {
  await withNamespaces(['node', 'ztunnel'], async (node, ztunnel) => {
    vethPair(
      { namespace: node, device: 'vethza', addresses: ['10.244.1.1/32', '172.18.0.2/32'] },
      { namespace: ztunnel, device: 'eth0', addresses: ['10.244.1.2/32'] },
    );
    runIn(node, 'ip', 'link', 'add', 'vethpod', 'type', 'bridge');
    runIn(node, 'ip', 'link', 'set', 'vethpod', 'up');
    await body(node, ztunnel);
  });
}
