package event

// Kind says what an event is.
type Kind uint8

// The kinds of events.
const (
	IsBid Kind = iota
	IsAuction
	IsPerson
)

// Event is one event. Times are milliseconds since 1970, prices cents.
type Event struct {
	// Number is the place of the event in the whole sequence, from 0. It parts
	// events of one time.
	Number int64
	Kind   Kind
	Bid    Bid
	// Auction and Person are nil unless Kind says so.
	Auction *Auction
	Person  *Person
}

// Bid is a bid on an auction.
type Bid struct {
	Auction, Bidder, Price int64
	// Channel is where the bid came from, URL the page.
	Channel, URL string
	DateTime     int64
	Extra        string
}

// Auction is something put up for sale until Expires.
type Auction struct {
	ID                    int64
	ItemName, Description string
	InitialBid, Reserve   int64
	DateTime, Expires     int64
	Seller, Category      int64
	Extra                 string
}

// Person is somebody who sells and bids.
type Person struct {
	ID                                          int64
	Name, EmailAddress, CreditCard, City, State string
	DateTime                                    int64
	Extra                                       string
}

// Time is the event time in milliseconds.
func (e *Event) Time() int64 {
	switch e.Kind {
	case IsAuction:
		return e.Auction.DateTime
	case IsPerson:
		return e.Person.DateTime
	}
	return e.Bid.DateTime
}
