import { AttributeReader, type NetlinkMessage, NFNL_SUBSYS_NFTABLES } from '../netlink/index.ts';
import { ownedRouteTables } from './apply-routes.ts';
import type { RedirectionPlan, Role } from './plan.ts';
import { ownedTables } from './render-nftables.ts';
import { OTHERS, OWN, PARAMETERS } from './verify.ts';

// <linux/rtnetlink.h>; each is followed by its DEL.
const RTM_NEWLINK = 16;
const RTM_NEWADDR = 20;
const RTM_NEWROUTE = 24;
const RTM_NEWRULE = 32;
const RTM_NEWNETCONF = 80;
const RTM_DELNETCONF = 81;
const IFINFOMSG_BYTES = 16;
const RTMSG_BYTES = 12;
const IFLA_IFNAME = 3;
const RTA_TABLE = 15;
/** NFT_MSG_NEWTABLE to NFT_MSG_DELSETELEM, whose first attribute is the name of the table; sets come behind the rules. */
const NFT_MSG_DELRULE = 8;
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

/**
 * What an nfnetlink notification gives to look at ({@link verifyFrom}): everything in the plan's tables is its own; of other tables
 * chains and rules may come in front, whereas the members of their sets, which change all the time, decide nothing by themselves.
 *
 * @returns a sum of parts, 0 for nothing
 */
export function concernsRules({ type, payload }: NetlinkMessage, { tables }: Concerns): number {
  const message = type & 0xff;
  if (type >> 8 !== NFNL_SUBSYS_NFTABLES || message > NFT_MSG_DELSETELEM) return 0;
  if (tables.has(attribute(payload, NFGENMSG_BYTES, NFTA_TABLE_NAME, (reader) => reader.string()) ?? '')) return OWN;
  return message <= NFT_MSG_DELRULE ? OTHERS : 0;
}

/** As {@link concernsRules}, of an rtnetlink notification. Policy rules always count: they are few, and any may come in front. */
export function concernsNetwork({ type, payload }: NetlinkMessage, { routeTables, links }: Concerns): number {
  switch (type & ~1) {
    case RTM_NEWRULE:
      return OWN | OTHERS;
    case RTM_NEWADDR:
      return OWN;
    case RTM_NEWNETCONF:
      // With a device go its parameters.
      return type === RTM_DELNETCONF ? OWN | PARAMETERS : PARAMETERS;
    case RTM_NEWLINK:
      return links.has(attribute(payload, IFINFOMSG_BYTES, IFLA_IFNAME, (reader) => reader.string()) ?? '') ? OWN : 0;
    case RTM_NEWROUTE: {
      const table = attribute(payload, RTMSG_BYTES, RTA_TABLE, (reader) => reader.u32());
      return routeTables.has(table ?? payload[4] ?? 0) ? OWN : 0;
    }
    default:
      return 0;
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
