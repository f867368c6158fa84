package generator

import "strconv"

var hot = [...]string{"Google", "Facebook", "Baidu", "Apple"}

// cold is the number of channels besides the hot ones.
const cold = 10000

// Channels are all channels of one seed, where bids come from: the hot ones
// first. They are never changed, so any number of generators may share them.
// All text is one string, so that a garbage collection has one object to mark
// instead of twenty thousand, and the table lies in the nearer caches.
type Channels struct {
	text  string
	table [len(hot) + cold]struct {
		begin     uint32
		name, url uint8
	}
}

// NewChannels makes the channels of a seed, which takes some milliseconds.
func NewChannels(seed uint64) *Channels {
	all := &Channels{}
	var text []byte
	for j := range all.table {
		begin, w := len(text), mix(seed+0x75726c00+(uint64(j)+1)*golden)
		c := uint64(j - len(hot))
		if j < len(hot) {
			text = append(text, hot[j]...)
		} else {
			text = strconv.AppendUint(append(text, "channel-"...), c, 10)
		}
		middle := len(text)
		text = append(text, "https://www.nexmark.com/"...)
		for k := uint64(0); k < 30; k += 10 {
			var dir [block]byte
			text = append(append(text, dir[:word(dir[:], w, k, 5)]...), '/')
		}
		text = append(text, "item.htm?query=1"...)
		if j >= len(hot) && below(draw(w, 50), 10) > 0 {
			text = strconv.AppendUint(append(text, "&channel_id="...), c*2654435761%(1<<31), 10)
		}
		at := &all.table[j]
		at.begin, at.name, at.url = uint32(begin), uint8(middle-begin), uint8(len(text)-middle)
	}
	all.text = string(text)
	return all
}

// channel is the name and the URL of a channel.
func (c *Channels) channel(j uint64) (name, url string) {
	at := &c.table[j]
	text := c.text[at.begin:]
	return text[:at.name], text[at.name:][:at.url]
}
