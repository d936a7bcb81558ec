import { hboneProxies } from '../peers/hbone-proxies.ts';
import { oddPeers } from './odd-peers.ts';

oddPeers(hboneProxies);
