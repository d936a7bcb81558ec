import { parseCidr } from '../../ip/index.ts';
import { AF_INET, AF_INET6, ENOENT } from '../../system/index.ts';
import { AttributeReader } from '../attribute-reader.ts';
import { NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL } from '../constants.ts';
import { MessageWriter } from '../message-writer.ts';
import type { Netlink } from '../netlink.ts';
import * as c from './constants.ts';
import {
  addressFamily,
  interfaceName,
  invalidInput,
  nameNumbered,
  networkBytes,
  numberNamed,
  wholeNumber,
} from './input.ts';
import { type DeleteOptions, type RouteOptions, requestDelete } from './link.ts';
import { ROUTE_PROTOCOLS, type RouteProtocol, RULE_ACTIONS, type RuleAction } from './names.ts';

/** A range of ports or user ids, both ends included. */
export interface PortRange {
  readonly start: number;
  readonly end: number;
}

/** A rule of the policy database: which table a packet is routed by. What is left out matches everything. */
export interface Rule {
  readonly family: 4 | 6;
  /** The lower is asked first. Left out: the kernel puts the rule in front of the others. */
  readonly priority?: number;
  /** Default: `lookup` with `table`, `goto` with `goto`. */
  readonly action?: RuleAction | number;
  /** The table to look in, 1 to 2^32-1. */
  readonly table?: number;
  /** The priority of the rule to go on at; higher than this rule's own. */
  readonly goto?: number;
  readonly fwmark?: number;
  /** Which bits of the mark are compared. Default: all, where fwmark is given. */
  readonly fwmask?: number;
  /** Interface the packet came in by (`lo` for packets of this namespace's own sockets). */
  readonly iif?: string;
  /** Interface that the packet's socket is bound to. */
  readonly oif?: string;
  /** Range of source addresses. */
  readonly source?: string;
  /** Range of destination addresses. */
  readonly destination?: string;
  /** Applies to what does not match (`not` in `ip rule`). */
  readonly invert?: boolean;
  /** Number of the transport protocol: 6 for TCP. */
  readonly ipProtocol?: number;
  readonly sourcePorts?: PortRange;
  readonly destinationPorts?: PortRange;
  /** Type of service, as it is in the packet's header. */
  readonly tos?: number;
  /** Ids of the users whose sockets send it. */
  readonly uids?: PortRange;
  /** Results with a prefix of this length or shorter do not count. */
  readonly suppressPrefixLength?: number;
  /** Who made the rule. Default `unspec`, as `ip rule`. */
  readonly protocol?: RouteProtocol | number;
  /**
   * FRA_ numbers of what a listed rule has beside all this, so that it matches less than it seems to: the id of a tunnel, an l3mdev, a
   * DSCP. It cannot be written.
   */
  readonly unread?: readonly number[];
}

/** A rule as it is listed: {@link addRule} takes it too, unless something of it is `unread`. */
export interface ListedRule extends Rule {
  readonly priority: number;
  readonly action: RuleAction | number;
}

/** @throws {InvalidInputError}; `NetlinkError` `EEXIST` where the same rule is there */
export function addRule(netlink: Netlink, rule: Rule, options: RouteOptions = {}): void {
  const op = 'route.addRule';
  netlink.request(encodeRule(c.RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, rule, op), { op, ...options });
}

/** Deletes the first rule that agrees with every field that is given. @throws {NetlinkError} `ENOENT` */
export function deleteRule(netlink: Netlink, rule: Rule, options: DeleteOptions = {}): void {
  const op = 'route.deleteRule';
  requestDelete(netlink, encodeRule(c.RTM_DELRULE, 0, rule, op), op, options, ENOENT);
}

/** Rules in the order in which they are asked, IPv4 before IPv6. */
export function listRules(
  netlink: Netlink,
  filter: { readonly family?: 4 | 6 } = {},
  options: RouteOptions = {},
): ListedRule[] {
  const rules: ListedRule[] = [];
  for (const family of filter.family === undefined ? ([4, 6] as const) : [filter.family]) {
    const writer = new MessageWriter().begin(c.RTM_GETRULE, NLM_F_DUMP);
    writer.u8(addressFamily(family)).bytes(new Uint8Array(c.FIB_RULE_HDR_BYTES - 1));
    for (const message of netlink.request(writer.end().finish(), { op: 'route.listRules', ...options })) {
      const rule = message.type === c.RTM_NEWRULE ? decodeRule(message.payload) : undefined;
      if (rule !== undefined) rules.push(rule);
    }
  }
  return rules;
}

/** The RTM_NEWRULE or RTM_DELRULE for `rule`. @throws {InvalidInputError} */
export function encodeRule(type: number, flags: number, rule: Rule, op: string): Buffer {
  if (rule.family !== 4 && rule.family !== 6) throw invalidInput(op, 'family', `${rule.family} is neither 4 nor 6`);
  const source = rangeOf(rule.source, rule.family, op, 'source');
  const destination = rangeOf(rule.destination, rule.family, op, 'destination');
  const action = actionOf(rule, type === c.RTM_DELRULE, op);
  if (rule.unread !== undefined) throw invalidInput(op, 'unread', `FRA_ ${rule.unread.join(', ')} cannot be written`);
  const tos = rule.tos === undefined ? 0 : wholeNumber(rule.tos, 0, 255, op, 'tos');
  const table = rule.table === undefined ? 0 : wholeNumber(rule.table, 1, 0xffff_ffff, op, 'table');
  const writer = new MessageWriter().begin(type, flags);
  writer
    .u8(addressFamily(rule.family))
    .u8(destination?.prefixLength ?? 0)
    .u8(source?.prefixLength ?? 0)
    .u8(tos)
    .u8(table < 256 ? table : c.RT_TABLE_UNSPEC)
    .u8(0)
    .u8(0)
    .u8(action)
    .u32(rule.invert ? c.FIB_RULE_INVERT : 0);
  if (destination !== undefined) writer.attrBytes(c.FRA_DST, networkBytes(destination));
  if (source !== undefined) writer.attrBytes(c.FRA_SRC, networkBytes(source));
  const u32 = (attribute: number, value: number | undefined, field: string) => {
    if (value !== undefined) writer.attrU32(attribute, wholeNumber(value, 0, 0xffff_ffff, op, field));
  };
  u32(c.FRA_PRIORITY, rule.priority, 'priority');
  u32(c.FRA_FWMARK, rule.fwmark ?? (rule.fwmask === undefined ? undefined : 0), 'fwmark');
  u32(c.FRA_FWMASK, rule.fwmask, 'fwmask');
  if (table > 255) writer.attrU32(c.FRA_TABLE, table);
  if (rule.goto !== undefined) u32(c.FRA_GOTO, checkedGoto(rule, op), 'goto');
  u32(c.FRA_SUPPRESS_PREFIXLEN, rule.suppressPrefixLength, 'suppressPrefixLength');
  if (rule.iif !== undefined) writer.attrString(c.FRA_IIFNAME, interfaceName(rule.iif, op, 'iif'));
  if (rule.oif !== undefined) writer.attrString(c.FRA_OIFNAME, interfaceName(rule.oif, op, 'oif'));
  if (rule.ipProtocol !== undefined) {
    writer.attrU8(c.FRA_IP_PROTO, wholeNumber(rule.ipProtocol, 1, 255, op, 'ipProtocol'));
  }
  if (rule.uids !== undefined) {
    const start = wholeNumber(rule.uids.start, 0, 0xffff_fffe, op, 'uids.start');
    const end = wholeNumber(rule.uids.end, start, 0xffff_fffe, op, 'uids.end');
    writer.attrBytes(c.FRA_UID_RANGE, new Uint8Array(Uint32Array.of(start, end).buffer));
  }
  writePorts(writer, c.FRA_SPORT_RANGE, rule.sourcePorts, op, 'sourcePorts');
  writePorts(writer, c.FRA_DPORT_RANGE, rule.destinationPorts, op, 'destinationPorts');
  if (rule.protocol !== undefined) {
    writer.attrU8(c.FRA_PROTOCOL, numberNamed(rule.protocol, ROUTE_PROTOCOLS, op, 'protocol'));
  }
  return writer.end().finish();
}

function actionOf(rule: Rule, deleting: boolean, op: string): number {
  if (rule.action !== undefined) {
    const action = numberNamed(rule.action, RULE_ACTIONS, op, 'action');
    if (deleting) return action;
    if (action === RULE_ACTIONS.lookup && rule.table === undefined) throw invalidInput(op, 'table', 'lookup needs one');
    if (action === RULE_ACTIONS.goto && rule.goto === undefined)
      throw invalidInput(op, 'goto', 'goto needs a priority');
    return action;
  }
  if (rule.goto !== undefined) return RULE_ACTIONS.goto;
  if (rule.table !== undefined) return RULE_ACTIONS.lookup;
  if (deleting) return 0;
  throw invalidInput(op, 'action', 'a rule needs a table, a goto or an action');
}

function checkedGoto(rule: Rule, op: string): number {
  const target = wholeNumber(rule.goto!, 1, 0xffff_ffff, op, 'goto');
  // The kernel would take it for a rule that is not there yet where the priority is its own choice.
  if (rule.priority !== undefined && target <= rule.priority) {
    throw invalidInput(op, 'goto', `${target} is not after the rule's own priority ${rule.priority}`);
  }
  return target;
}

function rangeOf(text: string | undefined, family: 4 | 6, op: string, field: string) {
  if (text === undefined) return undefined;
  const range = parseCidr(text, field);
  if (range.family !== family) throw invalidInput(op, field, `${text} is not IPv${family}`);
  return range;
}

function writePorts(
  writer: MessageWriter,
  type: number,
  ports: PortRange | undefined,
  op: string,
  field: string,
): void {
  if (ports === undefined) return;
  const start = wholeNumber(ports.start, 1, 65535, op, `${field}.start`);
  const end = wholeNumber(ports.end, start, 65535, op, `${field}.end`);
  const range = Buffer.alloc(4);
  range.writeUInt16LE(start, 0);
  range.writeUInt16LE(end, 2);
  writer.attrBytes(type, range);
}

/** Reads the payload of an RTM_NEWRULE; undefined for a family that is neither IPv4 nor IPv6. */
export function decodeRule(payload: Buffer): ListedRule | undefined {
  const reader = new AttributeReader(payload, c.FIB_RULE_HDR_BYTES);
  reader.check();
  const family = payload[0] === AF_INET ? 4 : payload[0] === AF_INET6 ? 6 : undefined;
  if (family === undefined) return undefined;
  const rule: { -readonly [K in keyof ListedRule]: ListedRule[K] } = {
    family,
    priority: 0,
    action: nameNumbered(payload[7]!, RULE_ACTIONS),
  };
  if ((payload.readUInt32LE(8) & c.FIB_RULE_INVERT) !== 0) rule.invert = true;
  if (payload[3] !== 0) rule.tos = payload[3]!;
  let table = payload[4]!;
  const unread: number[] = [];
  while (reader.next()) {
    switch (reader.type) {
      case c.FRA_DST:
        rule.destination = `${reader.ip()}/${payload[1]}`;
        break;
      case c.FRA_SRC:
        rule.source = `${reader.ip()}/${payload[2]}`;
        break;
      case c.FRA_PRIORITY:
        rule.priority = reader.u32();
        break;
      case c.FRA_FWMARK:
        rule.fwmark = reader.u32();
        break;
      case c.FRA_FWMASK:
        rule.fwmask = reader.u32();
        break;
      case c.FRA_TABLE:
        table = reader.u32();
        break;
      case c.FRA_GOTO:
        rule.goto = reader.u32();
        break;
      case c.FRA_SUPPRESS_PREFIXLEN:
        // The kernel writes -1 for "not set".
        if (reader.u32() !== 0xffff_ffff) rule.suppressPrefixLength = reader.u32();
        break;
      case c.FRA_IIFNAME:
        rule.iif = reader.string();
        break;
      case c.FRA_OIFNAME:
        rule.oif = reader.string();
        break;
      case c.FRA_IP_PROTO:
        rule.ipProtocol = reader.u8();
        break;
      case c.FRA_PROTOCOL:
        rule.protocol = nameNumbered(reader.u8(), ROUTE_PROTOCOLS);
        break;
      case c.FRA_SPORT_RANGE:
        rule.sourcePorts = portsOf(reader.u32());
        break;
      case c.FRA_DPORT_RANGE:
        rule.destinationPorts = portsOf(reader.u32());
        break;
      case c.FRA_UID_RANGE: {
        // `struct fib_rule_uid_range`, read as one number.
        const range = reader.u64();
        rule.uids = { start: Number(range & 0xffff_ffffn), end: Number(range >> 32n) };
        break;
      }
      case c.FRA_SPORT_MASK:
      case c.FRA_DPORT_MASK:
        // All bits is what a port without a mask has.
        if (reader.u16() !== 0xffff) unread.push(reader.type);
        break;
      case c.FRA_PAD:
        break;
      default:
        unread.push(reader.type);
    }
  }
  reader.check();
  if (unread.length > 0) rule.unread = unread;
  if (table !== c.RT_TABLE_UNSPEC) rule.table = table;
  return rule;
}

/** `struct fib_rule_port_range`, read as one number. */
function portsOf(range: number): PortRange {
  return { start: range & 0xffff, end: range >>> 16 };
}
