import { describe, expect, it } from 'vitest';
import { traceFrames } from '../../src/http2/frame-trace.ts';
import { HpackDecoder } from '../../src/http2/hpack/decoder.ts';

describe('traceFrames', () => {
  it.each([
    ['505249202a20485454502f322e300d0a0d0a534d0d0a0d0a', 'PREFACE'],
    [
      '00000c040000000000 000200000000 000400400000',
      'SETTINGS stream=0 length=12 ENABLE_PUSH=0 INITIAL_WINDOW_SIZE=4194304',
    ],
    ['000006040000000000 009900000001', 'SETTINGS stream=0 length=6 0x99=1'],
    ['000000040100000000', 'SETTINGS stream=0 ACK length=0'],
    ['000004080000000000 00ff0001', 'WINDOW_UPDATE stream=0 length=4 increment=16711681'],
    ['000008060100000000 0102030405060708', 'PING stream=0 ACK length=8 0102030405060708'],
    ['000004030000000005 00000008', 'RST_STREAM stream=5 length=4 CANCEL'],
    ['00000a070000000000 7fffffff 00000000 6869', 'GOAWAY stream=0 length=10 last=2147483647 NO_ERROR "hi"'],
    ['000003000100000001 616263', 'DATA stream=1 END_STREAM length=3'],
    ['000000fa0000000003', 'UNKNOWN(0xfa) stream=3 length=0'],
    ['00000300', '(4 bytes of a frame cut off)'],
    ['000003000100000001 61', '(10 bytes of a frame cut off)'],
  ])('%s', (hex, line) => {
    expect(traceFrames(Buffer.from(hex.replaceAll(' ', ''), 'hex'))).toEqual([line]);
  });

  it('shows header fields with a decoder of that direction', () => {
    const decoder = new HpackDecoder(4096, 4096);
    const first = Buffer.from('0000100125000000018000000010 41 03613a31 88 4001780179'.replaceAll(' ', ''), 'hex');
    expect(traceFrames(first, decoder)).toEqual([
      'HEADERS stream=1 END_STREAM END_HEADERS PRIORITY length=16 :authority="a:1" :status="200" x="y"',
    ]);
    const second = Buffer.from('00000401 0c 00000003 01 bf be 00'.replaceAll(' ', ''), 'hex');
    expect(traceFrames(second, decoder)).toEqual([
      'HEADERS stream=3 END_HEADERS PADDED length=4 :authority="a:1" x="y"',
    ]);
  });
});
