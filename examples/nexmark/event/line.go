package event

import "strconv"

// AppendLine appends the event as a line without its end: P, A or B and the
// columns, with bars between them. It is for comparing generators.
func (e *Event) AppendLine(dst []byte) []byte {
	switch e.Kind {
	case IsPerson:
		return e.Person.AppendColumns(append(dst, 'P'))
	case IsAuction:
		return e.Auction.AppendColumns(append(dst, 'A'))
	}
	return e.Bid.AppendColumns(append(dst, 'B'))
}

// AppendColumns appends all columns, each with a bar before it.
func (b *Bid) AppendColumns(dst []byte) []byte {
	dst = appendInts(dst, b.Auction, b.Bidder, b.Price)
	dst = appendTexts(dst, b.Channel, b.URL)
	return appendTexts(appendInts(dst, b.DateTime), b.Extra)
}

// AppendColumns appends all columns, each with a bar before it.
func (a *Auction) AppendColumns(dst []byte) []byte {
	dst = appendTexts(appendInts(dst, a.ID), a.ItemName, a.Description)
	dst = appendInts(dst, a.InitialBid, a.Reserve, a.DateTime, a.Expires, a.Seller, a.Category)
	return appendTexts(dst, a.Extra)
}

// AppendColumns appends all columns, each with a bar before it.
func (p *Person) AppendColumns(dst []byte) []byte {
	dst = appendTexts(appendInts(dst, p.ID), p.Name, p.EmailAddress, p.CreditCard, p.City, p.State)
	return appendTexts(appendInts(dst, p.DateTime), p.Extra)
}

func appendInts(dst []byte, values ...int64) []byte {
	for _, v := range values {
		dst = strconv.AppendInt(append(dst, '|'), v, 10)
	}
	return dst
}

func appendTexts(dst []byte, values ...string) []byte {
	for _, v := range values {
		dst = append(append(dst, '|'), v...)
	}
	return dst
}
