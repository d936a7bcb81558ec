import { EEXIST, ENOENT } from '../../system/index.ts';
import { NLM_F_DUMP, NLM_F_EXCL } from '../constants.ts';
import type { NetlinkMessage } from '../message-reader.ts';
import type { Netlink } from '../netlink.ts';
import { NetlinkError } from '../netlink-error.ts';
import * as c from './constants.ts';
import { IpsetError, ipsetError } from './error.ts';
import { type EncodedMember, type Member, prepareMember, writeMember } from './member.ts';
import { attrNet32, beginMessage, checkSetName } from './message.ts';
import { type AddressSet, decodeSets, encodeCreate, type ListedSet } from './set.ts';

/** Options of every call. */
export interface IpsetOptions {
  readonly signal?: AbortSignal | undefined;
}

/** Options of calls that make something. */
export interface AddOptions extends IpsetOptions {
  /** No error where it is there: a member then gets the new comment. Default false. */
  readonly existOk?: boolean;
}

/** Options of calls that take something away. */
export interface DeleteOptions extends IpsetOptions {
  /** No error where it is not there. Default false. */
  readonly missingOk?: boolean;
}

/** Members are spread over messages whose list is no longer than this: an attribute's own limit is 65,535. */
const MAX_LIST_BYTES = 60_000;

/**
 * Creates a set of type hash:ip. With `existOk` one of the same name, type, family and options is as good.
 *
 * @throws {InvalidInputError} `ERR_IPSET_INVALID`
 * @throws {IpsetError} `ERR_IPSET_EXISTS`; with `existOk` `ERR_IPSET_MISMATCH`, where the one that is there differs
 */
export function createSet(netlink: Netlink, set: AddressSet, options: AddOptions = {}): void {
  const op = 'ipset.create';
  const { name, family } = set;
  const message = encodeCreate(op, set, options.existOk ?? false);
  if (!options.existOk) {
    send(netlink, message, op, name, options);
    return;
  }
  try {
    send(netlink, message, op, name, options);
  } catch (error) {
    if (!(error instanceof IpsetError) || error.errno !== EEXIST) throw error;
    throw ipsetError(op, name, new NetlinkError({ op, errno: c.IPSET_ERR_TYPE_MISMATCH, cause: error }));
  }
  // The kernel compares type and options, and takes a set of the other family for the same.
  const header = beginMessage(c.IPSET_CMD_HEADER, 0, name).end().finish();
  const [there] = decodeSets(netlink.request(header, { op, signal: options.signal }));
  if (there !== undefined && there.family !== family) {
    throw ipsetError(op, name, new NetlinkError({ op, errno: c.IPSET_ERR_INVALID_FAMILY }));
  }
}

/** Takes a set away with its members. @throws {IpsetError} `ERR_IPSET_MISSING`, `ERR_IPSET_BUSY` where a rule uses it */
export function destroySet(netlink: Netlink, name: string, options: DeleteOptions = {}): void {
  const op = 'ipset.destroy';
  const message = beginMessage(c.IPSET_CMD_DESTROY, NLM_F_EXCL, checkSetName(op, name, 'name'))
    .end()
    .finish();
  send(netlink, message, op, name, options, options.missingOk ? [ENOENT] : []);
}

/** Takes every member of a set away. @throws {IpsetError} `ERR_IPSET_MISSING` */
export function flushSet(netlink: Netlink, name: string, options: IpsetOptions = {}): void {
  const op = 'ipset.flush';
  const message = beginMessage(c.IPSET_CMD_FLUSH, 0, checkSetName(op, name, 'name'))
    .end()
    .finish();
  send(netlink, message, op, name, options);
}

/**
 * Gives each of two sets the other's members, at once: rules that name them never meet a set half changed.
 *
 * @throws {IpsetError} `ERR_IPSET_MISSING`, `ERR_IPSET_MISMATCH` where they are of different types
 */
export function swapSets(netlink: Netlink, name: string, other: string, options: IpsetOptions = {}): void {
  const op = 'ipset.swap';
  const writer = beginMessage(c.IPSET_CMD_SWAP, 0, checkSetName(op, name, 'name'));
  writer.attrString(c.IPSET_ATTR_SETNAME2, checkSetName(op, other, 'other'));
  send(netlink, writer.end().finish(), op, name, options);
}

/** Adds one member. @throws {IpsetError} `ERR_IPSET_EXISTS`, `ERR_IPSET_MISSING`, `ERR_IPSET_MISMATCH`, `ERR_IPSET_FULL` */
export function addMember(netlink: Netlink, name: string, member: Member, options: AddOptions = {}): void {
  const op = 'ipset.add';
  const ready = prepareMember(op, member, 'member');
  const message = encodeOne(c.IPSET_CMD_ADD, options.existOk ? 0 : NLM_F_EXCL, checkSetName(op, name, 'name'), ready);
  send(netlink, message, op, name, options);
}

/**
 * Adds many members, with few messages. Not atomic: where one is refused those before it are in. {@link replaceMembers} is.
 *
 * @throws as {@link addMember}; a member that is none throws before anything is added
 */
export function addMembers(netlink: Netlink, name: string, members: readonly Member[], options: AddOptions = {}): void {
  const op = 'ipset.add';
  checkSetName(op, name, 'name');
  const ready = members.map((member, i) => prepareMember(op, member, `members[${i}]`));
  for (let start = 0; start < ready.length; ) {
    let end = start;
    for (let bytes = 0; end < ready.length; end++) {
      bytes += ready[end]!.bytes;
      if (bytes > MAX_LIST_BYTES && end > start) break;
    }
    const writer = beginMessage(c.IPSET_CMD_ADD, options.existOk ? 0 : NLM_F_EXCL, name);
    attrNet32(writer, c.IPSET_ATTR_LINENO, start + 1);
    writer.nest(c.IPSET_ATTR_ADT, (list) => {
      for (let i = start; i < end; i++) writeMember(list, ready[i]!, i + 1);
    });
    send(netlink, writer.end().finish(), op, name, options);
    start = end;
  }
}

/** Takes one member out. @throws {IpsetError} `ERR_IPSET_MISSING`, of the set or the member */
export function deleteMember(netlink: Netlink, name: string, ip: string, options: DeleteOptions = {}): void {
  const op = 'ipset.delete';
  const ready = prepareMember(op, { ip }, 'member');
  const flags = options.missingOk ? 0 : NLM_F_EXCL;
  try {
    send(netlink, encodeOne(c.IPSET_CMD_DEL, flags, checkSetName(op, name, 'name'), ready), op, name, options);
  } catch (error) {
    // The kernel has one number for a member that is there too early and for one that is not there.
    const cause = (error as { cause?: unknown }).cause;
    if (cause instanceof NetlinkError && cause.errno === c.IPSET_ERR_EXIST) {
      const message = `the set ${name} has no member ${ip}`;
      throw new IpsetError({ code: 'ERR_IPSET_MISSING', op, set: name, message, errno: cause.errno, cause });
    }
    throw error;
  }
}

/**
 * Makes a set have these members and no others, at once: a second set is filled, swapped in and taken away. The set must be there.
 *
 * @param set - as it was created: the second one is created alike
 * @throws as {@link createSet}, {@link addMember} and {@link swapSets}; the set then has the members it had
 */
export function replaceMembers(
  netlink: Netlink,
  set: AddressSet,
  members: readonly Member[],
  options: IpsetOptions = {},
): void {
  const op = 'ipset.replace';
  checkSetName(op, set.name, 'name');
  // A name of its own within the 31 bytes there are: what is left of an earlier try is overwritten.
  const other = `${set.name.slice(0, 27)}.new`;
  destroySet(netlink, other, { ...options, missingOk: true });
  createSet(netlink, { ...set, name: other }, options);
  try {
    addMembers(netlink, other, members, { ...options, existOk: true });
    swapSets(netlink, set.name, other, options);
  } finally {
    destroySet(netlink, other, { missingOk: true });
  }
}

/** The sets of the namespace with their members. */
export function listSets(netlink: Netlink, options: IpsetOptions = {}): ListedSet[] {
  return decodeSets(dump(netlink, undefined, options));
}

/** One set with its members; undefined where there is none of the name. */
export function getSet(netlink: Netlink, name: string, options: IpsetOptions = {}): ListedSet | undefined {
  checkSetName('ipset.list', name, 'name');
  try {
    return decodeSets(dump(netlink, name, options))[0];
  } catch (error) {
    if (error instanceof NetlinkError && error.errno === ENOENT) return undefined;
    throw error;
  }
}

function dump(netlink: Netlink, name: string | undefined, options: IpsetOptions): NetlinkMessage[] {
  const message = beginMessage(c.IPSET_CMD_LIST, NLM_F_DUMP, name).end().finish();
  return netlink.request(message, { op: 'ipset.list', signal: options.signal });
}

function encodeOne(command: number, flags: number, name: string, member: EncodedMember): Buffer {
  const writer = beginMessage(command, flags, name);
  writeMember(writer, member, 0);
  return writer.end().finish();
}

function send(
  netlink: Netlink,
  message: Buffer,
  op: string,
  set: string,
  options: IpsetOptions,
  accepted: readonly number[] = [],
): void {
  try {
    netlink.request(message, { op, signal: options.signal });
  } catch (error) {
    if (!(error instanceof NetlinkError) || error.errno === undefined) throw error;
    if (!accepted.includes(error.errno)) throw ipsetError(op, set, error);
  }
}
