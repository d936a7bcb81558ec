import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  AttributeReader,
  MessageWriter,
  NetlinkError,
  NFNL_MSG_BATCH_BEGIN,
  NFNL_MSG_BATCH_END,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLMSG_DONE,
  openNetlink,
} from '../../src/netlink/index.ts';
import type { NetworkNamespace } from '../../src/netns/index.ts';
import { AF_NETLINK, check, libc, NETLINK_ROUTE, SOCK_RAW } from '../../src/system/index.ts';
import { runIn, withNamespaces } from '../support/namespaces.ts';
import { describeRequiring } from '../support/require.ts';

const RTM_GETLINK = 18;
const NFT_MSG_NEWTABLE = 0xa00;
const NFT_MSG_GETTABLE = 0xa01;

function getLinks(): Buffer {
  return new MessageWriter().begin(RTM_GETLINK, NLM_F_DUMP).bytes(new Uint8Array(16)).end().finish();
}

/** Names of IFLA_IFNAME in an answer to RTM_GETLINK. */
function namesOf(messages: readonly { payload: Buffer }[]): string[] {
  return messages.map(({ payload }) => {
    const reader = new AttributeReader(payload, 16);
    let name = '';
    while (reader.next()) if (reader.type === 3) name = reader.string();
    reader.check();
    return name;
  });
}

function tablesBatch(names: readonly string[], flags = NLM_F_CREATE): Buffer {
  const writer = new MessageWriter();
  writer.begin(NFNL_MSG_BATCH_BEGIN, 0).u8(0).u8(0).u16be(10).end();
  for (const name of names) {
    writer.begin(NFT_MSG_NEWTABLE, flags).u8(2).u8(0).u16be(0).attrString(1, name).end();
  }
  return writer.begin(NFNL_MSG_BATCH_END, 0).u8(0).u8(0).u16be(10).end().finish();
}

function tableCount(namespace: NetworkNamespace): number {
  using netlink = openNetlink({ family: 'netfilter', namespace });
  const dump = new MessageWriter().begin(NFT_MSG_GETTABLE, NLM_F_DUMP).u8(2).u8(0).u16be(0).end();
  return netlink.request(dump.finish()).length;
}

function thrownBy(fn: () => unknown): NetlinkError {
  try {
    fn();
  } catch (error) {
    if (error instanceof NetlinkError) return error;
    throw error;
  }
  throw new Error('nothing was thrown');
}

function descriptorsOpen(): number {
  return readdirSync('/proc/self/fd').length;
}

describe('openNetlink without privilege', () => {
  it('dumps the links of this namespace', () => {
    using netlink = openNetlink({ family: 'route' });
    expect(namesOf(netlink.request(getLinks()))).toContain('lo');
  });

  it.each<[string, object]>([
    ['family', { family: 'xfrm' }],
    ['receiveBufferBytes', { receiveBufferBytes: 0 }],
    ['timeoutMs', { timeoutMs: Number.NaN }],
    ['maxReplyBytes', { maxReplyBytes: 2 ** 40 }],
    ['dumpRetries', { dumpRetries: -1 }],
  ])('names the option at fault: %s', (field, wrong) => {
    const before = descriptorsOpen();
    expect(() => openNetlink({ family: 'route', ...wrong })).toThrow(
      expect.objectContaining({ name: 'InvalidInputError', code: 'ERR_NETLINK_INVALID', field }),
    );
    expect(descriptorsOpen()).toBe(before);
  });

  it('gives answers that own their memory', () => {
    using netlink = openNetlink({ family: 'route' });
    const first = netlink.request(getLinks());
    const names = namesOf(first);
    netlink.request(getLinks());
    expect(namesOf(first)).toEqual(names);
  });

  it('numbers each request anew, and passes over the answers to one that was given up', () => {
    using netlink = openNetlink({ family: 'route', maxReplyBytes: 100 });
    expect(thrownBy(() => netlink.request(getLinks())).code).toBe('ERR_NETLINK_REPLY_LIMIT');
    // The dump was read to its end all the same: the kernel would answer EBUSY to the next one otherwise.
    expect(thrownBy(() => netlink.request(getLinks(), { op: 'test.again' }))).toMatchObject({
      code: 'ERR_NETLINK_REPLY_LIMIT',
      op: 'test.again',
      errno: undefined,
    });
  });

  it('refuses with the kernel its errno, its words, and the attribute at fault', () => {
    using netlink = openNetlink({ family: 'route' });
    const request = new MessageWriter().begin(RTM_GETLINK, 0).bytes(new Uint8Array(16)).attrString(3, 'x'.repeat(20));
    const error = thrownBy(() => netlink.request(request.end().finish(), { op: 'test.get' }));
    expect(error).toMatchObject({
      name: 'NetlinkError',
      code: 'ERANGE',
      errno: 34,
      syscall: 'sendmsg',
      op: 'test.get',
      offset: 32,
      attributePath: [3],
    });
    expect(error.extAck).toContain('policy validation');
  });

  it('is closed once, and says so afterwards', () => {
    const before = descriptorsOpen();
    const netlink = openNetlink({ family: 'route' });
    expect(descriptorsOpen()).toBe(before + 1);
    netlink.close();
    netlink.close();
    expect(descriptorsOpen()).toBe(before);
    expect(thrownBy(() => netlink.request(getLinks())).code).toBe('ERR_NETLINK_CLOSED');
    expect(thrownBy(() => netlink.batch(tablesBatch(['a']))).code).toBe('ERR_NETLINK_CLOSED');
  });

  it('closes at the end of a using declaration, also of an await using one', async () => {
    const before = descriptorsOpen();
    {
      using _first = openNetlink({ family: 'route' });
      await using _second = openNetlink({ family: 'netfilter' });
      expect(descriptorsOpen()).toBe(before + 2);
    }
    expect(descriptorsOpen()).toBe(before);
  });

  it('sends nothing once its signal is aborted', () => {
    using netlink = openNetlink({ family: 'route' });
    const reason = new Error('changed my mind');
    expect(() => netlink.request(getLinks(), { signal: AbortSignal.abort(reason) })).toThrow(reason);
  });

  it.each<[string, Buffer]>([
    ['two messages', Buffer.concat([getLinks(), getLinks()])],
    ['none', Buffer.alloc(0)],
  ])('takes no %s for a request', (_, bytes) => {
    using netlink = openNetlink({ family: 'route' });
    expect(thrownBy(() => netlink.request(bytes)).code).toBe('ERR_NETLINK_MALFORMED');
  });

  it('takes nothing for a batch that does not begin and end like one', () => {
    using netlink = openNetlink({ family: 'netfilter' });
    expect(thrownBy(() => netlink.batch(tablesBatch([]))).code).toBe('ERR_NETLINK_MALFORMED');
    expect(thrownBy(() => netlink.batch(getLinks())).code).toBe('ERR_NETLINK_MALFORMED');
  });

  it('prints every message to stderr where AMBIENT_NETLINK_DEBUG is 1, and nothing otherwise', () => {
    const script = `
      import { openNetlink } from ${JSON.stringify(new URL('../../src/netlink/index.ts', import.meta.url).href)};
      import { listLinks } from ${JSON.stringify(new URL('../../src/netlink/route/index.ts', import.meta.url).href)};
      using netlink = openNetlink({ family: 'route' });
      listLinks(netlink);`;
    const stderrWith = (value: string) =>
      spawnSync(process.execPath, ['--input-type=module', '-e', script], {
        encoding: 'utf8',
        env: { ...process.env, AMBIENT_NETLINK_DEBUG: value, NODE_NO_WARNINGS: '1' },
      }).stderr;
    const printed = stderrWith('1');
    expect(printed).toContain('RTM_GETLINK');
    expect(printed).toContain('RTM_NEWLINK');
    expect(printed).toContain('NLMSG_DONE');
    expect(stderrWith('')).toBe('');
  });

  it('waits no longer than timeoutMs for an answer that does not come', () => {
    using netlink = openNetlink({ family: 'route', timeoutMs: 50 });
    // The kernel answers everything, so the request goes out with another sequence number than the one that is waited for.
    const request = getLinks();
    const write = request.writeUInt32LE.bind(request);
    request.writeUInt32LE = (value, at) => write(at === 8 ? value - 1 : value, at);
    expect(thrownBy(() => netlink.request(request))).toMatchObject({ code: 'ERR_NETLINK_TIMEOUT', errno: undefined });
    expect(namesOf(netlink.request(getLinks()))).toContain('lo');
  });
});

describeRequiring('openNetlink in a namespace', { root: true, tools: ['ip'] }, () => {
  it('speaks about the namespace it was made in, also after that was left and closed', async () => {
    await withNamespaces(['nl'], (namespace) => {
      runIn(namespace, 'ip', 'link', 'add', 'only-here', 'type', 'veth', 'peer', 'name', 'other');
      using netlink = openNetlink({ family: 'route', namespace });
      namespace.close();
      expect(namesOf(netlink.request(getLinks())).sort()).toEqual(['lo', 'only-here', 'other']);
    });
  });

  it('passes over what another process sends to its port', () => {
    let trace = '';
    using netlink = openNetlink({ family: 'route', trace: (text) => (trace = text) });
    netlink.request(getLinks());
    const [seq, port] = [...trace.matchAll(/\|\s+(\d{10})\s+\|\t\| (?:sequence number|\s+port ID)/g)]
      .slice(-2)
      .map((at) => Number(at[1]));
    const intruder = check(libc().socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE), 'socket');
    try {
      const to = Buffer.alloc(12);
      to.writeUInt16LE(AF_NETLINK, 0);
      to.writeUInt32LE(port!, 4);
      // What would end the next dump before it began.
      const forged = new MessageWriter().begin(NLMSG_DONE, 2).s32(0).end().finish();
      forged.writeUInt32LE(seq! + 1, 8);
      check(libc().sendto(intruder, forged, forged.length, 0, to, to.length), 'sendto');
      expect(namesOf(netlink.request(getLinks()))).toContain('lo');
    } finally {
      libc().close(intruder);
    }
  });

  it('collects a dump of many parts', async () => {
    await withNamespaces(['nl'], (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace });
      const names = Array.from({ length: 3000 }, (_, at) => `table-${at}`);
      netlink.batch(tablesBatch(names));
      const dump = new MessageWriter().begin(NFT_MSG_GETTABLE, NLM_F_DUMP).u8(2).u8(0).u16be(0).end();
      const answers = netlink.request(dump.finish());
      expect(answers).toHaveLength(3000);
      expect(new Set(answers.map(({ seq }) => seq)).size).toBe(1);
    });
  });

  it('asks again for a dump that the kernel marks as inconsistent, until dumpRetries', async () => {
    await withNamespaces(['nl'], (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace });
      const names = Array.from({ length: 2000 }, (_, at) => `table-${at}`);
      netlink.batch(tablesBatch(names));
      using writer = openNetlink({ family: 'netfilter', namespace });
      let changes = 0;
      let changing = 1;
      // A change between two parts of a dump: when a part of it has been received.
      const trace = (text: string) => {
        if (!text.startsWith('< received') || changing === 0) return;
        changing--;
        writer.batch(tablesBatch([`late-${changes++}`]));
      };
      using disturbed = openNetlink({ family: 'netfilter', namespace, trace, dumpRetries: 1 });
      const dump = () => new MessageWriter().begin(NFT_MSG_GETTABLE, NLM_F_DUMP).u8(2).u8(0).u16be(0).end().finish();
      expect(disturbed.request(dump())).toHaveLength(2001);
      changing = Number.POSITIVE_INFINITY;
      expect(thrownBy(() => disturbed.request(dump(), { op: 'test.dump' }))).toMatchObject({
        code: 'ERR_NETLINK_INTERRUPTED',
        op: 'test.dump',
      });
    });
  });
});

describeRequiring('batches', { root: true, tools: ['nft'] }, () => {
  it('are done whole', async () => {
    await withNamespaces(['nl'], (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace });
      netlink.batch(tablesBatch(['one', 'two']));
      expect(runIn(namespace, 'nft', 'list', 'tables').trim().split('\n')).toEqual(['table ip one', 'table ip two']);
    });
  });

  it('or not at all, with the index of the message at fault', async () => {
    await withNamespaces(['nl'], (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace });
      netlink.batch(tablesBatch(['taken']));
      const batch = tablesBatch(['one', 'two', 'taken', 'three', 'taken'], NLM_F_CREATE | NLM_F_EXCL);
      expect(thrownBy(() => netlink.batch(batch, { op: 'test.batch' }))).toMatchObject({
        code: 'EEXIST',
        errno: 17,
        // BATCH_BEGIN is 0, so `one` is 1.
        index: 3,
        op: 'test.batch',
      });
      expect(tableCount(namespace)).toBe(1);
    });
  });

  it('of more than a megabyte go in one sendmsg', async () => {
    await withNamespaces(['nl'], (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace });
      const names = Array.from({ length: 5000 }, (_, at) => `${at}-${'n'.repeat(220)}`);
      const batch = tablesBatch(names);
      expect(batch.length).toBeGreaterThan(1 << 20);
      netlink.batch(batch);
      expect(tableCount(namespace)).toBe(5000);
    });
  });

  it('name the first fault also where there are more refusals than the receive buffer holds', async () => {
    await withNamespaces(['nl'], (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace, receiveBufferBytes: 16 << 10 });
      const names = Array.from({ length: 2000 }, (_, at) => `table-${at}`);
      netlink.batch(tablesBatch(names));
      const again = tablesBatch(['new', ...names], NLM_F_CREATE | NLM_F_EXCL);
      expect(thrownBy(() => netlink.batch(again))).toMatchObject({ code: 'EEXIST', index: 2 });
      expect(tableCount(namespace)).toBe(2000);
      // Nothing of it is left for the next one.
      netlink.batch(tablesBatch(['after']));
      expect(tableCount(namespace)).toBe(2001);
    });
  });

  it('say so where the answers themselves are lost', async () => {
    await withNamespaces(['nl'], (namespace) => {
      using netlink = openNetlink({ family: 'netfilter', namespace, receiveBufferBytes: 1 });
      // The caller asks for an acknowledgement of each: more than fit, and the last is not among them.
      const names = Array.from({ length: 2000 }, (_, at) => `table-${at}`);
      const error = thrownBy(() => netlink.batch(tablesBatch(names, NLM_F_CREATE | 4)));
      expect(error).toMatchObject({ code: 'ENOBUFS', errno: 105, syscall: 'recv' });
      expect(error.message).toContain('may have been carried out');
    });
  });
});
