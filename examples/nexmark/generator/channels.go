package generator

import "strconv"

// Channel is where bids come from.
type Channel struct{ Name, URL string }

var hot = [...]string{"Google", "Facebook", "Baidu", "Apple"}

// cold is the number of channels besides the hot ones.
const cold = 10000

// Channels are all channels of one seed, the hot ones first. They are never
// changed, so any number of generators may share them.
type Channels [len(hot) + cold]Channel

// NewChannels makes the channels of a seed, which takes some milliseconds.
func NewChannels(seed uint64) *Channels {
	all := &Channels{}
	for j := range all {
		w := mix(seed + 0x75726c00 + (uint64(j)+1)*golden)
		url := append(make([]byte, 0, 96), "https://www.nexmark.com/"...)
		for k := uint64(0); k < 30; k += 10 {
			n := len(url) + word(url[len(url):cap(url)], w, k, 5)
			url = append(url[:n], '/')
		}
		url = append(url, "item.htm?query=1"...)
		if j < len(hot) {
			all[j] = Channel{hot[j], string(url)}
			continue
		}
		c := uint64(j - len(hot))
		if below(draw(w, 50), 10) > 0 {
			url = strconv.AppendUint(append(url, "&channel_id="...), c*2654435761%(1<<31), 10)
		}
		all[j] = Channel{"channel-" + strconv.FormatUint(c, 10), string(url)}
	}
	return all
}
