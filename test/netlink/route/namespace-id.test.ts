import { expect, it } from 'vitest';
import { openNetlink } from '../../../src/netlink/index.ts';
import { getLink } from '../../../src/netlink/route/index.ts';
import { linkNamespaceIds, namespaceId } from '../../../src/netlink/route/namespace-id.ts';
import { vethPair, withNamespaces } from '../../support/namespaces.ts';
import { describeRequiring } from '../../support/require.ts';

describeRequiring('namespace ids', { root: true, tools: ['ip'] }, () => {
  it('name the namespace of a link’s other end, and no other (IFLA_LINK_NETNSID, RTM_GETNSID)', async () => {
    await withNamespaces(['nsid-a', 'nsid-b', 'nsid-c'], (a, b, c) => {
      vethPair({ namespace: a, device: 'toB', addresses: [] }, { namespace: b, device: 'toA', addresses: [] });
      using netlink = openNetlink({ family: 'route', namespace: a });
      const ids = linkNamespaceIds(netlink);
      const id = ids.get(getLink(netlink, 'toB')!.index);
      expect(id).toBeGreaterThanOrEqual(0);
      expect([...ids.values()]).toEqual([id]);
      expect(namespaceId(netlink, b)).toBe(id);
      expect(namespaceId(netlink, c)).toBeUndefined();
    });
  });
});
