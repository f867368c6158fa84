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
	dst = AppendInts(dst, b.Auction, b.Bidder, b.Price)
	dst = AppendTexts(dst, b.Channel, b.URL)
	return AppendTexts(AppendInts(dst, b.DateTime), b.Extra)
}

// AppendColumns appends all columns, each with a bar before it.
func (a *Auction) AppendColumns(dst []byte) []byte {
	dst = AppendTexts(AppendInts(dst, a.ID), a.ItemName, a.Description)
	dst = AppendInts(dst, a.InitialBid, a.Reserve, a.DateTime, a.Expires, a.Seller, a.Category)
	return AppendTexts(dst, a.Extra)
}

// AppendColumns appends all columns, each with a bar before it.
func (p *Person) AppendColumns(dst []byte) []byte {
	dst = AppendTexts(AppendInts(dst, p.ID), p.Name, p.EmailAddress, p.CreditCard, p.City, p.State)
	return AppendTexts(AppendInts(dst, p.DateTime), p.Extra)
}

// AppendInts appends whole numbers, each with a bar before it.
func AppendInts(dst []byte, values ...int64) []byte {
	for _, v := range values {
		dst = strconv.AppendInt(append(dst, '|'), v, 10)
	}
	return dst
}

// AppendTexts appends texts, each with a bar before it.
func AppendTexts(dst []byte, values ...string) []byte {
	for _, v := range values {
		dst = append(append(dst, '|'), v...)
	}
	return dst
}
