import { AttributeReader, type NetlinkMessage, NFNL_SUBSYS_NFTABLES } from '../netlink/index.ts';
import { ownedRouteTables } from './apply-routes.ts';
import type { RedirectionPlan, Role } from './plan.ts';
import { ownedTables } from './render-nftables.ts';

// <linux/rtnetlink.h>; each is followed by its DEL.
const RTM_NEWLINK = 16;
const RTM_NEWADDR = 20;
const RTM_NEWROUTE = 24;
const RTM_NEWRULE = 32;
const IFINFOMSG_BYTES = 16;
const RTMSG_BYTES = 12;
const IFLA_IFNAME = 3;
const RTA_TABLE = 15;
/** NFT_MSG_NEWTABLE to NFT_MSG_DELSETELEM, whose first attribute is the name of the table. */
const NFT_MSG_DELSETELEM = 14;
const NFGENMSG_BYTES = 4;
const NFTA_TABLE_NAME = 1;

/** What of a namespace is a plan's. */
export interface Concerns {
  readonly tables: ReadonlySet<string>;
  readonly routeTables: ReadonlySet<number>;
  readonly links: ReadonlySet<string>;
}

/** What a plan has to look after in the namespace of `role`. */
export function concernsOf(plan: RedirectionPlan, role: Role): Concerns {
  const side = plan.sides.find((side) => side.role === role);
  const links = plan.links.flatMap((link) => [
    ...(link.role === role ? [link.name] : []),
    ...(link.kind === 'veth' && link.peer.role === role ? [link.peer.name] : []),
  ]);
  return {
    tables: new Set(ownedTables(plan).map(({ name }) => name)),
    routeTables: new Set(side === undefined ? [] : ownedRouteTables(plan, side)),
    links: new Set(links),
  };
}

/** Whether an nfnetlink notification is about one of the plan's tables. */
export function concernsRules({ type, payload }: NetlinkMessage, { tables }: Concerns): boolean {
  if (type >> 8 !== NFNL_SUBSYS_NFTABLES || (type & 0xff) > NFT_MSG_DELSETELEM) return false;
  return tables.has(attribute(payload, NFGENMSG_BYTES, NFTA_TABLE_NAME, (reader) => reader.string()) ?? '');
}

/** Whether an rtnetlink notification is about something that the plan put there. Policy rules always are: they are few. */
export function concernsNetwork({ type, payload }: NetlinkMessage, { routeTables, links }: Concerns): boolean {
  switch (type & ~1) {
    case RTM_NEWRULE:
    case RTM_NEWADDR:
      return true;
    case RTM_NEWLINK:
      return links.has(attribute(payload, IFINFOMSG_BYTES, IFLA_IFNAME, (reader) => reader.string()) ?? '');
    case RTM_NEWROUTE: {
      const table = attribute(payload, RTMSG_BYTES, RTA_TABLE, (reader) => reader.u32());
      return routeTables.has(table ?? payload[4] ?? 0);
    }
    default:
      return false;
  }
}

function attribute<T>(
  payload: Buffer,
  start: number,
  type: number,
  read: (reader: AttributeReader) => T,
): T | undefined {
  const reader = new AttributeReader(payload, start);
  while (reader.next()) if (reader.type === type) return read(reader);
  return undefined;
}
