import { oddPeers } from '../hbone/odd-peers.ts';
import { engineProxies } from '../peers/engine-proxies.ts';

oddPeers(engineProxies);
