import { describe, expect, it } from 'vitest';
import { attributePathAt, readAcknowledgement, refusal } from '../../src/netlink/extended-ack.ts';
import { MessageWriter, readMessages } from '../../src/netlink/index.ts';
import { hex } from './golden.ts';

describe('readAcknowledgement', () => {
  it('reads the text and offset of a capped refusal, as the kernel sends it', () => {
    // Recorded: RTM_NEWLINK with an IFLA_IFNAME of 20 letters. NLMSG_ERROR with CAPPED and ACK_TLVS, -ERANGE, the request's header,
    // NLMSGERR_ATTR_MSG, NLMSGERR_ATTR_OFFS 32, NLMSGERR_ATTR_POLICY { type NUL_STRING, max length 15 }.
    const [message] = readMessages(
      hex(`68000000 0200 0003 46390271 68650000
           deffffff 3c000000 1000 0504 4639026b 00000000
           2700 0100 417474726962757465206661696c656420706f6c6963792076616c69646174696f6e 0000
           0800 0200 20000000
           1400 0480 0800 0700 0f000000 0800 0100 0b000000`),
    );
    expect(readAcknowledgement(message!)).toEqual({
      errno: 34,
      extAck: 'Attribute failed policy validation',
      offset: 32,
    });
  });

  it('finds the attributes behind a request that is quoted whole', () => {
    const quoted = new MessageWriter().begin(16, 0).bytes(new Uint8Array(16)).attrString(3, 'eth0').end().finish();
    const message = new MessageWriter()
      .begin(2, 0x200)
      .s32(-17)
      .bytes(quoted)
      .bytes(new Uint8Array((4 - (quoted.length & 3)) & 3))
      .attrString(1, 'it is there')
      .attrU32(5, 7)
      .end()
      .finish();
    expect(readAcknowledgement(readMessages(message)[0]!)).toEqual({
      errno: 17,
      extAck: 'it is there',
      missingAttribute: 7,
    });
  });

  it('takes success with a warning, and the bare end of a dump', () => {
    const warned = new MessageWriter()
      .begin(2, 0x300)
      .s32(0)
      .bytes(new Uint8Array(16))
      .attrString(1, 'a warning')
      .end()
      .finish();
    expect(readAcknowledgement(readMessages(warned)[0]!)).toEqual({ errno: 0, extAck: 'a warning' });
    expect(readAcknowledgement({ type: 3, flags: 2, seq: 1, payload: Buffer.alloc(0) })).toEqual({ errno: 0 });
    const done = new MessageWriter().begin(3, 0x202).s32(-2).attrString(1, 'no such table').end().finish();
    expect(readAcknowledgement(readMessages(done)[0]!)).toEqual({ errno: 2, extAck: 'no such table' });
  });
});

describe('attributePathAt', () => {
  const request = new MessageWriter()
    .begin(16, 0)
    .bytes(new Uint8Array(16))
    .attrString(3, 'va')
    .nest(18, (writer) =>
      writer
        .attrString(1, 'veth')
        .nest(2, () => writer.nest(1, () => writer.bytes(new Uint8Array(16)).attrString(3, 'vb'))),
    )
    .end()
    .finish();

  it.each([
    [32, [3]],
    [40, [18]],
    [44, [18, 1]],
    [56, [18, 2]],
    [60, [18, 2, 1]],
    // Inside the fixed header of VETH_INFO_PEER: the nest is what is known.
    [64, [18, 2, 1]],
  ])('names the attribute at byte %i', (offset, path) => {
    expect(attributePathAt(request, 32, offset)).toEqual(path);
  });

  it('names none for a field of the fixed header, or beyond the end', () => {
    expect(attributePathAt(request, 32, 20)).toBeUndefined();
    expect(attributePathAt(request, 32, 4000)).toBeUndefined();
  });
});

describe('refusal', () => {
  it('says what the kernel said and where', () => {
    const request = new MessageWriter().begin(16, 0).bytes(new Uint8Array(16)).attrString(3, 'va').end().finish();
    const error = refusal({ errno: 17, extAck: 'Name is taken', offset: 32 }, 'route.addLink', request, 16, 4);
    expect(error).toMatchObject({
      code: 'EEXIST',
      errno: 17,
      syscall: 'sendmsg',
      extAck: 'Name is taken',
      offset: 32,
      attributePath: [3],
      index: 4,
    });
    expect(error.message).toBe(
      'route.addLink: sendmsg failed with EEXIST: Name is taken (message 4 of the batch, attribute 3)',
    );
  });
});
