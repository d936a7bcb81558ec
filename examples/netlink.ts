// Lists this namespace's links, addresses, rules and default routes by netlink, as `ip` would, and shows what a refusal looks like.
// Needs no root.
import { NetlinkError, openNetlink } from '../src/netlink/index.ts';
import { listAddresses, listLinks, listRoutes, listRules, setLink } from '../src/netlink/route/index.ts';

using netlink = openNetlink({ family: 'route' });

const addresses = listAddresses(netlink);
for (const link of listLinks(netlink)) {
  const own = addresses
    .filter(({ device }) => device === link.name)
    .map(({ ip, prefixLength }) => `${ip}/${prefixLength}`);
  const kind = link.kind === 'other' ? link.kernelKind || 'hardware or loopback' : link.kind;
  console.log(
    `${link.index}: ${link.name} (${kind}) ${link.up ? 'up' : 'down'}, mtu ${link.mtu}, ${own.join(' ') || 'no address'}`,
  );
}

for (const { priority, fwmark, action, table } of listRules(netlink, { family: 4 })) {
  console.log(`rule ${priority}: ${fwmark === undefined ? 'all' : `mark ${fwmark}`} → ${action} ${table ?? ''}`);
}

for (const { destination, gateway, device } of listRoutes(netlink, { table: 254 })) {
  if (destination === '0.0.0.0/0' || destination === '::/0') console.log(`default via ${gateway} dev ${device}`);
}

try {
  setLink(netlink, 'no-such-link', { up: true });
} catch (error) {
  if (!(error instanceof NetlinkError)) throw error;
  console.log(`${error.op} of ${error.field} → ${error.code} (errno ${error.errno})`);
}
