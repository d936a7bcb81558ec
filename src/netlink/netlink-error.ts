import { AmbientError } from '../errors/index.ts';
import { errnoName } from '../system/index.ts';

/** What a {@link NetlinkError} is made of. Either `errno` (the kernel refused) or `code` (the conversation itself failed). */
export interface NetlinkErrorInit {
  readonly op: string;
  /** `ERR_NETLINK_…`; by default the name of `errno`. */
  readonly code?: string;
  /** Positive, as in `<errno.h>`. */
  readonly errno?: number | undefined;
  /** `sendmsg` for a refusal that came back as an answer, else the call that failed. */
  readonly syscall?: string | undefined;
  /** Put after the errno's name, or the whole text where there is no errno. */
  readonly message?: string | undefined;
  readonly extAck?: string | undefined;
  readonly offset?: number | undefined;
  readonly attributePath?: readonly number[] | undefined;
  readonly missingAttribute?: number | undefined;
  readonly index?: number | undefined;
  /** The input at fault, where it is known: `device`. */
  readonly field?: string | undefined;
  readonly cause?: unknown;
}

/**
 * The kernel refused a netlink request, or the conversation with it broke down.
 *
 * A refusal has `errno` and its name as `code` (`EEXIST`). Everything else has no `errno` and one of the codes `ERR_NETLINK_ENCODE`
 * (a value that does not fit its attribute), `ERR_NETLINK_MALFORMED` (bytes that are no netlink), `ERR_NETLINK_TIMEOUT`,
 * `ERR_NETLINK_REPLY_LIMIT`, `ERR_NETLINK_INTERRUPTED` (the table kept changing under a dump) and `ERR_NETLINK_CLOSED`.
 */
export class NetlinkError extends AmbientError {
  override readonly name = 'NetlinkError';
  /** Positive, as in `<errno.h>`; undefined where `code` begins with `ERR_NETLINK_`. */
  readonly errno: number | undefined;
  readonly syscall: string | undefined;
  /** The kernel's own words (extended acknowledgement, NLMSGERR_ATTR_MSG). */
  readonly extAck: string | undefined;
  /** Where in the request, in bytes from its nlmsghdr, the attribute at fault begins (NLMSGERR_ATTR_OFFS). */
  readonly offset: number | undefined;
  /** The attribute at fault by the types that lead to it, outermost first: `[18, 2]` is IFLA_LINKINFO, IFLA_INFO_DATA. */
  readonly attributePath: readonly number[] | undefined;
  /** The type of a required attribute that was not there (NLMSGERR_ATTR_MISS_TYPE). */
  readonly missingAttribute: number | undefined;
  /** In a batch: the message at fault, counted from 0 over all of its messages, the opening NFNL_MSG_BATCH_BEGIN included. */
  readonly index: number | undefined;

  constructor(init: NetlinkErrorInit) {
    const code = init.code ?? (init.errno === undefined ? 'ERR_NETLINK_MALFORMED' : errnoName(init.errno));
    super({ code, op: init.op, field: init.field, message: describe(init, code), cause: init.cause });
    this.errno = init.errno;
    this.syscall = init.syscall;
    this.extAck = init.extAck;
    this.offset = init.offset;
    this.attributePath = init.attributePath;
    this.missingAttribute = init.missingAttribute;
    this.index = init.index;
  }
}

function describe(init: NetlinkErrorInit, code: string): string {
  if (init.errno === undefined) return init.message ?? code;
  const parts = [`${init.syscall ?? 'sendmsg'} failed with ${code}`];
  if (init.message !== undefined) parts.push(init.message);
  if (init.extAck !== undefined) parts.push(init.extAck);
  const where: string[] = [];
  if (init.index !== undefined) where.push(`message ${init.index} of the batch`);
  if (init.attributePath !== undefined) where.push(`attribute ${init.attributePath.join('.')}`);
  if (init.missingAttribute !== undefined) where.push(`attribute ${init.missingAttribute} is missing`);
  return parts.join(': ') + (where.length === 0 ? '' : ` (${where.join(', ')})`);
}
